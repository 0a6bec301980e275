"""Entries of projection mapping in the registry; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "noise_models": {
        "gamut": Entry(
            "infield.physics.projection_mapping.gamut_law:GamutNoise",
            "pictures that projectors can show: a likelihood without data",
            facts={
                "entries": "`mixing`: the name of a variable (projector, 3, 3, *space*); `background`: likewise, (3, "
                "*space*); `tolerance` s",
                "meaning, with z the noiseless data": "log p = -sum d² / 2s², d the distance of z from the gamut "
                "of each pixel; the data are zeros",
            },
        ),
    },
    "operators": {
        "display": Entry(
            "infield.physics.projection_mapping.display:build_display",
            "sRGB-coded picture to linear camera light",
            facts={
                "parameters": "`exposure` (1), camera light of white; `to_srgb`, camera channels to linear sRGB",
                "arrays (role: shape)": "",
                "output S": "(3, *space*): exposure · T⁻¹ · decode(x); the field has the channels red, green, blue",
            },
        ),
        "across-edges": Entry(
            "infield.physics.projection_mapping.guidance:build_across_edges",
            "part of an image's gradient that another image's edges lack",
            facts={
                "parameters": "",
                "arrays (role: shape)": "`direction` ξ = ∇S / √(|∇S|² + η²) of an image S: (2, y, x)",
                "output S": "(2 · channel, y, x): (1 - ξ ξᵀ) ∇x, forward differences",
            },
        ),
        "edge-gradient": Entry(
            "infield.physics.projection_mapping.guidance:build_edge_gradient",
            "derivative of a picture's luma across the edges of another image",
            facts={
                "parameters": "",
                "arrays (role: shape)": "`direction` ξ = ∇S / √(|∇S|² + η²) of an image S: (2, y, x)",
                "output S": "(1, y, x): ξ · ∇L, L the luma of red, green and blue, forward differences",
            },
        ),
        "low-pass": Entry(
            "infield.physics.projection_mapping.guidance:build_low_pass",
            "means over blocks of an image",
            facts={
                "parameters": "`blocks`: their number along y and x; `luma` (false): of the luma, less its mean",
                "arrays (role: shape)": "",
                "output S": "(channel or 1, *blocks*)",
            },
        ),
        "multi-projector": Entry(
            "infield.physics.projection_mapping.multi_projector:build_multi_projector",
            "light of several projectors on a surface, seen by a camera",
            facts={
                "parameters": "`defocus` in projector pixels and `black`, black over white: a number, or one for each "
                "projector; `patches` (15, 20)",
                "arrays (role: shape)": "`warp` (v, u): (projector, 2, y, x); `seen`: (projector, y, x); `mixing`: "
                "(projector, 3, 3, y, x); `background`: (3, y, x); `response`: (projector, 3, entries), for a field "
                "of drive signals; `reflectance`: (3, y, x) with `form_factors`: (patches, patches)",
                "output S": "(3, y, x), linear camera light; the field has 3 channels on (projector, v, u)",
            },
        ),
    },
}
