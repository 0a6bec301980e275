"""The kriging bench: its reference is right by other formulas, its fields have their law, its verdicts can be no."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from examples.kriging_peers import exact, greedy
from scipy.integrate import quad
from scipy.special import gamma, kv
from scipy.stats import norm

from infield.core.errors import InfieldError
from infield.pipelines.bench.kriging import calibration, counts, oracle, ours, peers, points, processes, scores, shapes
from infield.pipelines.bench.kriging.fields import at_places, lattice_field, on_unit_square
from infield.pipelines.bench.kriging.tables import PartsBench


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def few_points(rng, n: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rng.random((n, 2)), rng.standard_normal(n), rng.random((7, 2))


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5, 0.8])
def test_matern_is_the_bessel_formula(nu):
    r = np.array([1e-12, 0.01, 0.3, 1.0, 4.0])
    s = math.sqrt(2 * nu) * r
    by_bessel = 2 ** (1 - nu) / gamma(nu) * s**nu * kv(nu, s)
    assert oracle.matern(r, nu) == pytest.approx(by_bessel, abs=1e-9)


def test_dense_kriging_is_the_conditional_of_the_joint_law(rng):
    """By the precision matrix of data and targets together."""
    X, y, T = few_points(rng)
    law = oracle.turned(1.5, (0.4, 0.1), 30, sd=1.3)
    both = np.concatenate([T, X])
    joint = law.covariance(both, both)
    joint[range(7, 19), range(7, 19)] += 0.3
    precision = np.linalg.inv(joint)
    covariance = np.linalg.inv(precision[:7, :7])
    mean, sd = oracle.dense_kriging(law, X, y, 0.3, T, batch=5)
    assert mean == pytest.approx(-covariance @ precision[:7, 7:] @ y)
    assert sd == pytest.approx(np.sqrt(covariance.diagonal()))


@pytest.mark.parametrize(("drift", "columns"), [("constant", 1), ("linear", 3)])
def test_a_drift_is_a_wide_prior(rng, drift, columns):
    """Universal kriging is the limit of a field whose coefficients are independent and of great variance."""
    X, y, T = few_points(rng)
    law, wide = oracle.isotropic(0.5, 0.3), 1e6
    F, G = (np.column_stack([np.ones(len(p)), p])[:, :columns] for p in (X, T))
    K = law.covariance(X, X) + 0.1 * np.eye(12) + wide * F @ F.T
    k = law.covariance(X, T) + wide * F @ G.T
    variance = law.sd**2 + wide * (G**2).sum(1) - (k * np.linalg.solve(K, k)).sum(0)
    mean, sd = oracle.dense_kriging(law, X, y, 0.1, T, drift)
    assert mean == pytest.approx(k.T @ np.linalg.solve(K, y), abs=1e-4)
    assert sd**2 == pytest.approx(variance, abs=1e-4)


def test_turning_the_axes_turns_the_law():
    law, unturned = oracle.turned(1.5, (0.5, 0.1), 30), oracle.turned(1.5, (0.5, 0.1))
    origin, c, s = np.zeros((1, 2)), math.cos(math.pi / 6), math.sin(math.pi / 6)
    for along, turned in (((1.0, 0.0), (c, s)), ((0.0, 1.0), (-s, c))):
        wanted = unturned.covariance(origin, np.array([along]))
        assert law.covariance(origin, np.array([turned])) == pytest.approx(wanted)
    assert unturned.covariance(origin, np.array([[1.0, 0]])) > 10 * unturned.covariance(origin, np.array([[0, 1.0]]))


def test_fields_on_a_lattice_have_their_covariance(rng):
    """z-scores of all products with one corner, over 1,000 draws of a turned law on an open square."""
    law, nodes, n = oracle.turned(1.5, (0.3, 0.1), 30, sd=2.0), 9, 1000
    draws = np.stack([lattice_field(law, nodes, 1 / (nodes - 1), rng).reshape(-1) for _ in range(n)])
    axis = np.linspace(0, 1, nodes)
    places = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    for lawful, bound in ((law, 4.5), (oracle.turned(1.5, (0.3, 0.1), -30, sd=2.0), math.inf)):
        C = lawful.covariance(places, places[:1])[:, 0]
        z = (draws * draws[:, :1]).mean(0) - C
        z /= np.sqrt((C**2 + C[0] * lawful.sd**2) / n)
        assert np.abs(z).max() < bound
    assert np.abs(z).max() > 4.5  # turned the other way, it is another law


def test_a_field_too_long_for_its_torus_is_refused(rng):
    with pytest.raises(InfieldError, match="circulant embedding"):
        lattice_field(oracle.isotropic(2.5, 3.0), 9, 1 / 8, rng)


def test_data_lie_on_the_field_and_truth_on_the_grid(rng):
    problem = on_unit_square(oracle.isotropic(1.5, 0.2), 50, 8, 1e-9, rng)
    at_grid = {tuple(p): v for p, v in zip(problem.grid_places.round(9).tolist(), problem.truth, strict=True)}
    shared = [(v, at_grid[p]) for *p, v in zip(*problem.points.round(9).T, problem.values, strict=True)
              for p in [tuple(map(float, p))] if p in at_grid]  # fmt: skip
    assert all(a == pytest.approx(b, abs=1e-7) for a, b in shared)
    nearest = np.abs(problem.points[:, None] - problem.grid_places).sum(-1).argmin(1)
    assert np.corrcoef(problem.values, problem.truth[nearest])[0, 1] > 0.7


def test_crps_is_its_integral():
    """Of (F(x) - 1[x >= truth])^2."""
    for mean, sd, truth in ((0.0, 1.0, 0.3), (1.0, 0.2, 1.7)):

        def square(x, mean=mean, sd=sd, truth=truth):
            return (norm.cdf(x, mean, sd) - (x >= truth)) ** 2

        integral = quad(square, mean - 9, truth)[0] + quad(square, truth, mean + 9)[0]
        assert scores.crps(*(np.array([v]) for v in (mean, sd, truth))) == pytest.approx(integral, abs=1e-6)


def test_the_rim_is_the_outer_twentieth_and_far_is_far():
    axis = np.linspace(0, 1, 42)  # no point lies on the edge of the rim
    rim = scores.rim_of((axis, axis)).reshape(42, 42)
    assert rim[:3].all() and rim[:, -3:].all() and not rim[3:-3, 3:-3].any()
    places = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    far = scores.far_from_data(places, np.zeros((1, 2)))
    assert far[-1] and not far[0] and far.mean() == pytest.approx(0.1, abs=0.01)


def test_coverage_of_a_right_normal_law_and_of_a_wrong_one(rng):
    truth = rng.standard_normal(20_000)
    assert scores.coverage(np.zeros(20_000), np.ones(20_000), truth) == pytest.approx(0.9, abs=0.01)
    assert scores.coverage(np.zeros(20_000), np.full(20_000, 0.5), truth) < 0.7


def test_a_target_is_met_only_where_every_named_peer_ran():
    bench = PartsBench("kriging", 0)
    bench.scores("p: a #0", "infield", {"rmse": 1.0})
    bench.scores("p: a #0", "peer", {"rmse": 0.99})
    bench.refuse("p: a #0", "other", "not installed")
    bench.judge(
        "p: a", "rmse_over_peer", bench.ratio("p: a", "infield", ["peer", "other"], "rmse"), 1.02, peers=["peer"]
    )
    bench.judge("p: a", "rmse_over_peer", bench.ratio("p: a", "infield", ["peer"], "rmse"), 1.0, peers=["peer"])
    bench.judge("p: a", "rmse_over_peer", 1.01, 1.02, peers=["peer", "other"])
    bench.judge("p: a", "coverage_90", None, 0.92, 0.88)
    bench.judge("p: a", "coverage_90", 0.95, 0.92, 0.88)
    bench.judge("p: a", "rmse_over_other", None, 1.0, peers=["other"])
    bench.judge("p: b", "rmse_over_other", None, 1.0, peers=["other"])  # of which ours has none either
    assert [r.met for r in bench.records if r.target] == [True, False, None, False, False, None, False]
    assert "unknown" in bench.targets() and "refused" in bench.targets()


def test_a_mean_over_truths_misses_only_beyond_two_standard_errors():
    bench = PartsBench("kriging", 0)
    for i, (wide, narrow) in enumerate(((0.80, 0.930), (0.98, 0.934), (0.98, 0.932))):
        bench.scores(f"p: wide #{i}", "infield", {"coverage_90": wide})
        bench.scores(f"p: narrow #{i}", "infield", {"coverage_90": narrow})
    bench.scores("p: one #0", "infield", {"coverage_90": 0.93})
    for group in ("p: wide", "p: narrow", "p: one"):
        mean, error = (figure(group, "infield", "coverage_90") for figure in (bench.mean, bench.error))
        bench.judge(group, "coverage_90", mean, 0.90, 0.88, error=error)
    wide, narrow, one = (r for r in bench.records if r.target)
    assert (wide.met, narrow.met, one.met) == (True, False, False)
    assert wide.error == pytest.approx(0.06) and one.error is None
    assert "0.92 ± 0.06" in bench.targets()


def test_a_ratio_is_over_the_truths_that_both_have_to_the_best():
    bench = PartsBench("kriging", 0)
    for case, mine, theirs in (("p: a #0", 1.0, 0.5), ("p: a #1", 9.0, None)):
        bench.scores(case, "infield", {"rmse": mine})
        if theirs:
            bench.scores(case, "peer", {"rmse": theirs})
            bench.scores(case, "worse peer", {"rmse": 2.0})
    assert bench.ratio("p: a", "infield", ["peer", "worse peer"], "rmse") == 2.0
    assert bench.ratio("p: a", "infield", ["absent"], "rmse") is None


def peer(answer, module: str = "scipy.linalg") -> peers.Peer:
    return peers.Peer("a peer", "scipy", (module,), answer)


def test_a_peer_answers_in_a_process_that_counts_its_cost(tmp_path, rng):
    problem = on_unit_square(oracle.isotropic(1.5, 0.1, 2.0), 40, 6, 0.2, rng)
    limits = processes.Limits(tmp_path, memory_gib=1.0, seconds=60)
    found = processes.of_peer(peer(exact), problem, limits)
    assert found.refused is None, found.refused
    assert found.answer.mean == pytest.approx(exact(problem).mean)
    assert found.cost["cpu_seconds"] > found.cost["cpu_seconds_import"] > 0
    assert found.cost["memory"] > found.cost["memory_over_import"] >= 0
    assert "memory" in processes.of_peer(peer(greedy), problem, limits).refused.lower()
    assert "not installed" in processes.of_peer(peer(exact, "no_such_peer"), problem, limits).refused


@pytest.mark.slow
def test_quick_runs_every_part_and_writes_records(tmp_path, infield, monkeypatch):
    few = ("data beyond cell centres", "3 data")
    monkeypatch.setattr(shapes, "SHAPES", {name: shapes.SHAPES[name] for name in few})
    monkeypatch.setattr(calibration, "METHODS", {"infield": ("--no-validation",)})
    monkeypatch.setattr(counts, "MEANS", (3.0,))
    monkeypatch.delenv("INFIELD_DATA", raising=False)
    said = infield("bench", "kriging", "--quick", "--records", tmp_path / "k.json")
    assert said.status == 0, said.err
    records = json.loads((tmp_path / "k.json").read_text())["records"]
    found = {(r["case"].partition(" #")[0], r["method"], r["metric"]): r["value"] for r in records}
    arm = "points: nu 3/2, order free, noise known"
    assert found[arm, "kriging, true law", "rmse_over_kriging"] == 1
    assert 0.5 < found[arm, "infield, no option", "rmse_over_kriging"] < 2
    assert found["calibration: fields from the prior", "kriging, true law", "rank_p_value"] > 1e-3
    assert {r["case"].partition(":")[0] for r in records} == {
        "points",
        "dense-cells",
        "large",
        "shapes",
        "real",
        "calibration",
        "counts",
        "trust",
    }
    targets = [r for r in records if "target" in r]
    assert targets and all(set(r) == set(targets[0]) and r["met"] in (True, False, None) for r in targets)
    assert "figures asked for" in said.out and "| case | method | n |" in said.out


def test_only_cases_of_a_name_run(infield, tmp_path):
    said = infield("bench", "kriging", "--quick", "--only", "beyond cell", "--records", tmp_path / "k.json")
    assert said.status == 0, said.err
    cases = {r["case"].partition(" #")[0] for r in json.loads((tmp_path / "k.json").read_text())["records"]}
    assert cases - {"real: all files"} == {"shapes: data beyond cell centres"}
    infield("bench", "kriging", "--quick", "--parts", "shapes", "--only", "no such case").refused("--only")


def test_counts_have_their_former_name_for_a_version(infield, monkeypatch):
    given = {}
    monkeypatch.setattr(counts, "run", lambda bench, settings, **more: given.update(truths=settings.truths, **more))
    said = infield("bench", "kriging-counts", "--truths", "2", "--side", "8")
    assert said.status == 0 and "bench kriging --parts counts" in said.err
    assert given == {"truths": 2, "side": 8, "peer_truths": None}


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in peers.PEERS if n != "gstools"])
def test_peers_are_near_kriging_under_the_true_law(rng, name):
    """Each fits its parameters to 600 data and comes near the map of who knows them; gstools takes minutes."""
    for module in peers.PEERS[name].modules:
        pytest.importorskip(module)
    law = oracle.isotropic(1.5, 0.1, 2.0)
    problem = on_unit_square(law, 600, 16, 0.2, rng).stating(noise_sd=0.2, order=1.5)
    found, right = peers.PEERS[name].answer(problem), exact(problem)
    assert scores.rmse(found.mean, problem.truth) < 1.1 * scores.rmse(right.mean, problem.truth)
    assert 0.8 < np.sqrt((found.sd**2).mean() / (right.sd**2).mean()) < 1.25


def test_few_truths_are_refused(infield):
    infield("bench", "kriging", "--truths", "0", "--parts", "points").refused("--truths", "0")


def test_cholesky_draws_have_their_variance(rng):
    places = rng.random((30, 2))
    draws = np.stack([at_places(oracle.isotropic(1.5, 0.2, 3.0), places, rng) for _ in range(400)])
    z = (draws**2).mean() / 9 - 1
    assert abs(z) < 0.2
    assert points.NOISE_SD < points.SD


def test_what_a_posterior_reports_of_its_law_is_found_at_any_depth():
    law = {
        "nu": 1.5,
        "variance": 4.0,
        "lengths": {"y": {"length": 0.1, "units": "1"}, "x": {"length": 0.2, "units": "1"}},
    }
    attributes = {"title": "A map", "fit": json.dumps({"field": law | {"noise_sd": 0.3}})}
    found = ours.law_found(attributes)
    here, there = np.zeros((1, 2)), np.array([[0.05, -0.1]])
    wanted = oracle.turned(1.5, (0.1, 0.2), sd=2.0).covariance(here, there)
    assert found.covariance(here, there) == pytest.approx(wanted)
    assert ours.noise_found(attributes) == 0.3
    assert ours.law_found({"title": "A map"}) is None and ours.noise_found({}) is None
    turned = {"fit": json.dumps(law | {"azimuth_degrees": 30.0})}
    assert ours.law_found(turned) is None
