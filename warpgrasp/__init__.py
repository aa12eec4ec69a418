"""Differentiable dexterous grasp synthesis on NVIDIA Warp."""

__version__ = "0.1.0"
