"""From token ids to hidden states."""
