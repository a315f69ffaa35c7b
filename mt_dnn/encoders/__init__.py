"""The shared encoder: from token ids to hidden states."""
