"""Entries of 21 cm in the registry; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "operators": {
        "interferometer": Entry(
            "infield.physics.cm21.interferometer:build_interferometer",
            "gridded visibilities of a radio telescope",
            facts={
                "parameters": "`channel_cells`: cells of the line of sight in a channel (default 1); `delay_channels`: "
                "channels of a segment that is transformed to delays (default 0: none)",
                "arrays (role: shape)": "`mask`: (nx, ny // 2 + 1, channels), at most one of each pair of modes k and "
                "−k, none that is its own mirror image; optionally `beam_fwhm`: (depth,), in the units of the axes",
                "output S": "(2, nx, ny // 2 + 1, channels): orthonormal transform over x and y of the channels' "
                "means, kx in the order of `fftfreq`; a field of 1 channel on (x, y, line of sight)",
            },
        ),
    },
}
