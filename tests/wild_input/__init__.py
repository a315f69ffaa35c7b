"""Gives commands inputs of any kind, and checks that each ends in success or in one message: see ``__main__``."""
