from pathlib import Path

CLIENT = Path(__file__).parents[2] / "clients/python"


def test_the_first_example_of_the_readme_is_the_file() -> None:
    _, shown, _ = (CLIENT / "README.md").read_text().split("```", 2)
    _, program = (CLIENT / "examples/ensure.py").read_text().split('"""\n\n', 1)
    assert shown == f"python\n{program}"
