"""A run opens its measurement once, and its calls go down through the rooms and seldom back up."""

from pathlib import Path

import pytest
import torch
from examples.example_files import GAUSSIAN
from stays_counter import figures, follow_reconstruct, followed, openings

from infield.core.grid import Axis, Grid
from infield.datasets.formats import zarr_group
from infield.datasets.formats.measurement import open_measurement
from infield.datasets.wall_pressure.sensors import WallSensors, write_wall_measurement
from infield.physics.wall_pressure.wall_units import SPANWISE, STREAMWISE, WALL_LENGTH
from infield.pipelines.cli import main
from infield.pipelines.run.prior_choice import cautions
from infield.pipelines.wall_pressure.caution import another_flow

STAYS, CLIMBS = 60, 8


def test_a_run_with_a_report_stays_in_few_rooms_and_opens_its_measurement_once(tmp_path):
    route, measurement = follow_reconstruct(tmp_path)
    assert len(route.stays()) < STAYS and route.climbs.total() <= CLIMBS, figures(route, measurement)
    assert openings(route, measurement) == 1, figures(route, measurement)


def wall(path: Path) -> Path:
    axes = (Axis(name, tuple(8.0 * i for i in range(16)), WALL_LENGTH, True) for name in (SPANWISE, STREAMWISE))
    sensors = WallSensors.random(Grid(tuple(axes)), 0.1, 1)
    truth = torch.randn(sensors.grid.shape, generator=torch.Generator().manual_seed(0))
    write_wall_measurement(path, sensors.measure(truth, 0.2, 2), re_tau=180, synthetic=True)
    return path


@pytest.mark.slow
def test_so_does_a_run_of_a_domain(tmp_path):
    """With what the domain adds: a caution about its prior, a section of the report."""
    measurement, report = wall(tmp_path / "m.zarr"), tmp_path / "r.html"
    (tmp_path / "prior.yaml").write_text(GAUSSIAN)
    arguments = ("-o", tmp_path / "p.zarr", "--prior", tmp_path / "prior.yaml", "--samples", 2, "--report", report)
    with followed() as route:
        assert main([str(a) for a in ("reconstruct", measurement, *arguments)]) == 0
    assert "random field stands in for a flow" in report.read_text()
    assert openings(route, measurement) == 1


def test_what_a_file_says_goes_with_its_measurement(tmp_path):
    measurement = open_measurement(wall(tmp_path / "m.zarr"))
    assert measurement.source == tmp_path / "m.zarr" and measurement.data_units == "1"
    assert measurement.attributes["title"].startswith("Synthetic stand-in for wall pressure, Re_tau 180")
    assert measurement.context["Re_tau"].number == 180 and measurement.context["synthetic"].number == 1
    on_device = measurement.to(dtype=torch.float32)
    assert on_device.digest == measurement.digest and on_device.context["Re_tau"].number == 180

    class Trained:
        provenance = {"data": {"Re_tau": 500.0}}

    assert another_flow(measurement, Trained()) == cautions(measurement, Trained())
    assert cautions(measurement, Trained()).startswith(f"{measurement.source}: found Re_tau 180, the prior was trained")


def test_the_counter_sees_a_climb_and_every_opening(tmp_path):
    """A negative control: a function of a lower room that is handed one of a higher."""
    measurement = open_measurement(file := wall(tmp_path / "m.zarr"))
    with followed() as route:
        zarr_group.open_group(file, "measurement", 1)
        open_measurement(file).residual(measurement.truth)
    assert openings(route, file) == 2 and not route.climbs
    assert [room for room, _ in route.stays()][:3] == ["datasets", "physics", "datasets"]
    measurement.operator.A = lambda x: another_flow(measurement, None) or torch.zeros_like(measurement.y)
    with followed() as route:
        measurement.residual(measurement.truth)
    names = [tuple(name.split(": ")[1] for name in pair) for pair in route.climbs]
    assert names == [("Measurement._noiseless", "another_flow")] and route.climbs.total() == 1
