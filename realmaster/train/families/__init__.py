"""Model families: how each encodes a pair and predicts its target's velocity. One file a family, all alike."""
