"""Grasps by the million: a folder of Parquet files, how it is filled, checked and read.

>>> from warpgrasp import dataset
>>> store = dataset.open_store("grasps/")
>>> for grasps in store.grasps(hand="allegro", split="train"): ...
"""

from .config import Config as Config
from .config import read_config as read_config
from .estimating import Estimate as Estimate
from .estimating import estimate as estimate
from .generating import Report as Report
from .generating import generate as generate
from .merging import merge as merge
from .schema import contact_table as contact_table
from .schema import iterate_grasps as iterate_grasps
from .schema import read_grasps as read_grasps
from .schema import read_table as read_table
from .schema import write_parquet as write_parquet
from .schema import write_table as write_table
from .splitting import split as split
from .store import Part as Part
from .store import ShardSummary as ShardSummary
from .store import Store as Store
from .store import open_store as open_store
from .verifying import Problem as Problem
from .verifying import repair as repair
from .verifying import stats as stats
from .verifying import verify as verify
