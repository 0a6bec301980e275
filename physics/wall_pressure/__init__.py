"""Wall units and the channel-flow solver."""
