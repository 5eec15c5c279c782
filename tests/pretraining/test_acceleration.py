from functools import partial

import pytest
import torch

from unimiss_hf import MiTConfig, MiTForPreTraining, MiTModel
from unimiss_hf.layers_mit import MiTLayer
from unimiss_hf.pretraining import Pretrainer
from unimiss_hf.pretraining.acceleration import choose_float32_arithmetic, compile_blocks
from unimiss_hf.pretraining.distillation import SelfDistillation, make_teacher
from unimiss_hf.pretraining.objective import SelfDistillationObjective

# Traces blocks as every backend does, and leaves out the minutes of making code.
trace_blocks = partial(compile_blocks, backend="eager")


def blocks_of(model) -> list[MiTLayer]:
    return [module for module in model.modules() if isinstance(module, MiTLayer)]


def is_compiled(block: MiTLayer) -> bool:
    return block._compiled_call_impl is not None


@pytest.fixture
def float32_arithmetic():
    yield
    choose_float32_arithmetic(tf32=False)


def test_compiled_blocks_give_the_same_outputs_under_the_same_names(small_config, tmp_path):
    model = MiTModel(small_config).eval()
    names = list(model.state_dict())
    inputs = torch.rand(2, 1, 40, 48), torch.rand(1, 1, 5, 32, 40)
    with torch.no_grad():
        expected = [model(pixel_values).pooler_output for pixel_values in inputs]
        torch._dynamo.utils.counters.clear()
        trace_blocks(model)
        found = [model(pixel_values).pooler_output for pixel_values in inputs]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    # Blocks of a stage share a graph, and none fell back to running uncompiled.
    frames = torch._dynamo.utils.counters["frames"]
    assert frames["total"] == frames["ok"] == 2 * len(small_config.hidden_sizes)

    assert list(model.state_dict()) == names
    model.save_pretrained(tmp_path)
    again = MiTModel.from_pretrained(tmp_path)
    assert torch.equal(again(inputs[0]).pooler_output, expected[0])
    assert not any(map(is_compiled, blocks_of(again)))


def test_a_step_of_compiled_blocks_has_the_same_gradients(small_config):
    config = MiTConfig(**{**small_config.to_dict(), "depths": [1] * 4, "decoder_depths": [1] * 3})
    views = tuple(torch.rand(2, 2, 1, 32, 32))
    gradients = []
    for accelerate in (lambda model: None, trace_blocks):
        torch.manual_seed(1)
        student = MiTForPreTraining(config).train()
        teacher = make_teacher(student)
        accelerate(student)
        objective = SelfDistillationObjective(config.num_prototypes)
        SelfDistillation(student, teacher, objective).accumulate(views)
        gradients.append({n: p.grad for n, p in student.named_parameters() if p.grad is not None})
    expected, found = gradients
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_run_compiles_student_and_teacher_only_if_asked(settings):
    plain = Pretrainer(settings())
    assert not any(map(is_compiled, blocks_of(plain.state.student)))
    plain.folder.release()
    compiled = Pretrainer(settings(compile_blocks=True))
    for model in (compiled.state.student, compiled.state.teacher):
        assert all(map(is_compiled, blocks_of(model)))
    compiled.folder.release()


def test_a_run_may_be_compiled_when_it_continues_but_not_change_its_arithmetic(settings):
    Pretrainer(settings(max_steps=1)).run()
    Pretrainer(settings(max_steps=1, compile_blocks=True)).folder.release()
    with pytest.raises(ValueError, match="tf32 was False and is now True"):
        Pretrainer(settings(max_steps=1, tf32=True))


@pytest.mark.usefixtures("float32_arithmetic")
def test_float32_is_float32_unless_told_otherwise(settings):
    for tf32 in (True, False):
        choose_float32_arithmetic(not tf32)
        Pretrainer(settings(tf32=tf32)).folder.release()
        assert torch.backends.cuda.matmul.allow_tf32 == tf32
        assert torch.backends.cudnn.allow_tf32 == tf32
