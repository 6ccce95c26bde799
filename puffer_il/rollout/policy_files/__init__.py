"""Policies in other people's files, read without unpickling: one file here for each format."""

from puffer_il.rollout.policy_files.file_policy import FilePolicy
from puffer_il.rollout.policy_files.read import read_policy

__all__ = ["FilePolicy", "read_policy"]
