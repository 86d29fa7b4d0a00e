"""What the pipelines of sound share: the stream that takes a sound as it arrives answers it."""

from typing import Any

from numlstm.tasks.audio.sound import Sound, opened
from numlstm.tasks.pipelines import Answer, Pipeline


class SoundPipeline(Pipeline[Sound, Answer]):
    """Something that is heard. Threads may share it."""

    _item = "sound"
    _lists = (list,)  # a tuple is samples and their rate

    def answer(self, sound: Sound) -> Answer:
        """Answer a sound; one in which there is nothing to hear has an answer that says so.

        Parameters
        ----------
        sound : path or (samples, rate)
            A sound file by its path or open in binary, or samples (T,) or (T, channels) and their
            number per second: floats within -1 to 1, int16, int32 or uint8.

        Raises
        ------
        OSError, TypeError, ValueError
            If there is no such file, or it holds no sound, or samples or rate are not as above.
        """
        with opened(sound) as (rate, blocks):
            stream = self.stream(rate)
            for block in blocks:
                stream.feed(block)
            answer: Answer = stream.finish()
            return answer

    def stream(self, rate: float) -> Any:
        """Return a stream that takes samples, so many per second, as they arrive."""
        raise NotImplementedError
