"""What every file in kernels/ promises, checked on its syntax tree."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

KERNELS = Path(__file__).resolve().parents[1] / "kernels"
PATHS = sorted(KERNELS.glob("*.py"))
every_file = pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])


def decorated(path: Path, decorator: str) -> list[ast.FunctionDef]:
    """Functions of a file that carry a decorator whose source starts like this."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(entry).startswith(decorator) for entry in node.decorator_list)
    ]


def differentiated(path: Path) -> list[ast.FunctionDef]:
    """Kernels and functions that Warp may run backward: all but those that switch it off."""
    if "set_module_options({'enable_backward': False})" in ast.unparse(ast.parse(path.read_text(encoding="utf-8"))):
        return []
    return [
        function
        for function in decorated(path, "wp.")
        if not any("enable_backward=False" in ast.unparse(entry) for entry in function.decorator_list)
    ]


def test_there_are_kernels_to_check():
    assert any(decorated(path, "wp.kernel") for path in PATHS)


@every_file
def test_kernels_describe_their_arguments_and_take_outputs_last(path):
    for kernel in decorated(path, "wp.kernel"):
        arguments = [argument.arg for argument in kernel.args.args]
        text = ast.get_docstring(kernel) or ""
        missing = [name for name in arguments if f"{name}:" not in text]
        assert not missing, f"{kernel.name}: the docstring does not describe {missing}"
        outputs = [name.endswith("_out") for name in arguments]
        assert any(outputs), f"{kernel.name}: writes to no argument named *_out"
        assert outputs == sorted(outputs), f"{kernel.name}: an input stands after an output"


@every_file
def test_kernel_files_import_warp_math_and_siblings_only(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert {entry.name for entry in node.names} <= {"math", "warp"}, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1, f"not a sibling: {ast.unparse(node)}"


@every_file
def test_kernel_files_launch_nothing(path):
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert "wp.launch" not in calls, "a kernel file computes, the module of the same name launches"


@every_file
def test_no_operator_that_loses_its_gradient(path):
    for function in differentiated(path):
        for node in ast.walk(function):
            if isinstance(node, ast.AugAssign):
                assert isinstance(node.op, ast.Add | ast.Sub), f"{function.name}: Warp has no adjoint of {node.op}="


def summed_names(loop: ast.stmt) -> set[str]:
    """Variables that a loop adds to."""
    return {
        node.target.id
        for node in ast.walk(loop)
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name)
    }


@every_file
def test_a_sum_over_a_loop_is_returned_or_stored_as_it_is(path):
    """Warp does not replay long loops going backward, so what is computed from their sums gets a wrong gradient."""
    for function in differentiated(path):
        for position, statement in enumerate(function.body):
            if not isinstance(statement, ast.For | ast.While):
                continue
            sums = summed_names(statement)
            for later in function.body[position + 1 :]:
                untouched = isinstance(later, ast.Return | ast.Assign) and isinstance(later.value, ast.Name | ast.Tuple)
                used = sums & {node.id for node in ast.walk(later) if isinstance(node, ast.Name)}
                assert untouched or not used, f"{function.name}: computes with {used}, which a loop has summed"
