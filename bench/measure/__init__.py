"""What is timed, weighed and counted, each in processes of its own; and the commands for it."""
