"""What every published part (model, pipeline, scheduler) writes: a folder that opens where the package is absent."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

from diffusers.utils.dynamic_modules_utils import get_relative_import_files, get_relative_imports

PLAIN = {".json", ".py", ".safetensors"}


def contents(folder: Path) -> dict[str, bytes]:
    """{path within the folder: bytes}."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class PublishedContract:
    """Mix into a model, pipeline or scheduler contract, whose `build` gives the part."""

    def build(self) -> Any:
        raise NotImplementedError

    def test_the_saved_folder_holds_the_source_file_and_what_it_imports_from_beside_it(self, tmp_path: Path) -> None:
        part = self.build()
        module, source = sys.modules[type(part).__module__], Path(inspect.getfile(type(part)))
        part.save_pretrained(tmp_path)
        saved = contents(tmp_path)
        assert saved[f"{module.PUBLISHED_AS}.py"] == source.read_bytes()
        for name in get_relative_imports(source):
            assert saved[f"{name}.py"] == source.with_name(f"{name}.py").read_bytes()

    def test_the_source_file_imports_all_that_it_needs_itself(self) -> None:
        """From a local folder, diffusers takes only the files that the pipeline's own file names."""
        source = inspect.getfile(type(self.build()))
        needed = {Path(file).stem for file in get_relative_import_files(source)}
        assert needed == set(get_relative_imports(source))

    def test_the_saved_folder_holds_no_pickle(self, tmp_path: Path) -> None:
        self.build().save_pretrained(tmp_path)
        assert {Path(name).suffix for name in contents(tmp_path)} <= PLAIN

    def test_saving_what_was_loaded_gives_the_same_files(self, tmp_path: Path) -> None:
        part = self.build()
        part.save_pretrained(tmp_path / "first")
        type(part).from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
        assert contents(tmp_path / "second") == contents(tmp_path / "first")

    def test_the_configuration_tells_nothing_of_this_machine(self, tmp_path: Path) -> None:
        part = self.build()
        part.register_to_config(_name_or_path=str(tmp_path))
        assert str(tmp_path) not in part.to_json_string()
        assert "_name_or_path" not in part.to_json_string()
