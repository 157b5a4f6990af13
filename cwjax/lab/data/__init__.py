"""Data sets: where they come from, how they are checked, and how they are read."""

from cwjax.lab.data.dataset import SPLITS, CorruptData, Dataset, Images, MissingData, Source
from cwjax.lab.data.official import OfficialFiles
from cwjax.lab.data.sources import SOURCES, folder_of, load

__all__ = [
    "SOURCES",
    "SPLITS",
    "CorruptData",
    "Dataset",
    "Images",
    "MissingData",
    "OfficialFiles",
    "Source",
    "folder_of",
    "load",
]
