"""Data for training: NumPy arrays from files of digits, as labels, batches and splits."""

from minigrad.data.batches import batches, one_hot, train_test_split
from minigrad.data.mnist import MAX_BYTES, MAX_DIGITS, DataFileError, Digits, load_mnist, open_idx
from minigrad.names import door

__all__ = [
    "MAX_BYTES", "MAX_DIGITS", "DataFileError", "Digits", "batches", "load_mnist", "one_hot", "open_idx",
    "train_test_split",
]  # fmt: skip

door(__name__)
