"""How fast a model is on this machine, and whether it answers the same bits everywhere.

`measure` times it as a stream, a pool and a sequence; `certify` holds step, run, pool and saved
state against each other, and says in one digest what another machine must answer.
"""

from numlstm.measure.certificate import Certificate, Check, certify
from numlstm.measure.measurement import Measurement, measure

__all__ = ["Certificate", "Check", "Measurement", "certify", "measure"]
