"""Data sets: where they come from, how they are checked, and how they are read."""

from cwjax.lab.data.sources import (
    SOURCES,
    SPLITS,
    CorruptData,
    Dataset,
    Images,
    MissingData,
    OfficialFiles,
    Source,
    folder_of,
    load,
)

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
