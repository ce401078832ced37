"""Simulated GPUs for `flexinfer up --simulate-gpus FILE`: nodes and cards that a file describes, with memory that engines really take."""
