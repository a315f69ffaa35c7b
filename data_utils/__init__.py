"""Rows in, token ids and scores out. Everything here runs without torch."""

PART_OF = "mt-dnn"  # other projects have packages of this name too, see mt_dnn/foreign.py
