"""What `infield doctor` finds, and what it calls broken."""

from importlib.metadata import PackageNotFoundError

from infield.pipelines.commands import doctor


def test_the_installation_is_examined(infield):
    found = infield("doctor", "--json").summary
    assert found["faults"] == [] and found["torchvision"].startswith("torchvision ")
    assert {"infield", "torch", "devices", "extra mri", "current folder", "file names", "commit"} <= found.keys()
    assert found["current folder"].endswith("can be written")


def test_what_is_broken_gives_status_1(infield, monkeypatch):
    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", version)
    said = infield("doctor", "--json")
    assert said.status == 1 and '"faults": ["lightning is not installed"' in said.out


def test_a_folder_that_cannot_be_written(tmp_path):
    assert doctor._written(tmp_path) == "can be written"
    assert doctor._written(tmp_path / "nowhere").startswith("cannot be written (No such file")
