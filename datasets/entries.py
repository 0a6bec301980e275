"""Readers of every domain, by kind and suffix; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "readers": {
        "table.csv": Entry(
            "infield.datasets.tables.table:read_text",
            "columns of text",
            ("table.txt", "table.dat", "table.tsv", "table.xyz", "table.asc"),
        ),
        "table.parquet": Entry(
            "infield.datasets.tables.table:read_parquet", "Apache Parquet", ("table.pq", "table.geoparquet")
        ),
        "table.nc": Entry(
            "infield.datasets.tables.table:read_stations",
            "netCDF or zarr of stations",
            ("table.nc4", "table.cdf", "table.netcdf", "table.h5", "table.zarr"),
        ),
    },
}
