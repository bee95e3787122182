"""The architecture is a test: imports only point down this list, and none hides in a function."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
LAYERS = [
    {"solon.errors"},
    {"solon.pool"},
    {"solon.pool_ray"},
    {"solon.launch_ray"},
    {"solon.conversation"},
    {"solon.comparison", "solon.question", "solon.constitution", "solon.statistics"},
    {"solon.calibration", "solon.elo", "solon.paired", "solon.logistic", "solon.scaling.memory"},
    {"solon.data.tables", "solon.data.rows", "solon.data.packaged"},
    {"solon.data.texts", "solon.data.published", "solon.data.toy_world", "solon.data.handover"},
    {"solon.data.exchange", "solon.data.attacks", "solon.data.traits", "solon.data.behaviours", "solon.data.problems"},
    {"solon.data.bias", "solon.data.survey"},
    {"solon.data.evaluations", "solon.data.world"},
    {"solon.models.base", "solon.models.cache", "solon.models.heads", "solon.models.adapters", "solon.models.weights", "solon.models.memory"},
    {"solon.models.attention"},
    {"solon.models.trie", "solon.models.body", "solon.models.dialogue", "solon.models.choice", "solon.models.scripted", "solon.models.remote"},
    {"solon.models.llama", "solon.models.graphs"},
    {"solon.models.small", "solon.models.huggingface_body", "solon.models.sampling", "solon.models.scoring", "solon.models.activations"},
    {"solon.models.scalar"},
    {"solon.models.torch_model"},
    {"solon.models.huggingface", "solon.models.small_files"},
    {"solon.models.embedded", "solon.models.vllm"},
    {"solon.models.load"},
    {"solon.models.spread", "solon.evaluation.lm_eval_model"},
    {"solon.training.steps", "solon.training.losses", "solon.training.parallel"},
    {"solon.training.optimiser"},
    {"solon.training.thrift"},
    {"solon.training.fit"},
    {"solon.training.improve"},
    {
        "solon.alignment.critique", "solon.alignment.feedback", "solon.alignment.preference", "solon.alignment.overoptimisation", "solon.alignment.outliers", "solon.alignment.distillation",
        "solon.evaluation.replies", "solon.evaluation.duel", "solon.evaluation.graders",
    },
    {"solon.evaluation.measure"},
    {"solon.evaluation.scores", "solon.evaluation.bias", "solon.evaluation.opinions", "solon.evaluation.self_knowledge", "solon.evaluation.knowledge", "solon.evaluation.selective", "solon.evaluation.few_shot", "solon.evaluation.oversight", "solon.evaluation.sycophancy", "solon.evaluation.preference_features"},
    {"solon.evaluation.self_correction"},
    {"solon.evaluation.toy_bias", "solon.evaluation.toy_flattery", "solon.evaluation.posterior_nuts", "solon.evaluation.inspect_logs"},
    {"solon.evaluation.toy_facts"},
    {"solon.interpretability.linear", "solon.interpretability.candidates", "solon.interpretability.autoencoder", "solon.interpretability.stream", "solon.interpretability.planted", "solon.interpretability.toy_language", "solon.interpretability.labels", "solon.interpretability.induction", "solon.interpretability.repeats", "solon.interpretability.toy_superposition", "solon.interpretability.superposition"},
    {"solon.interpretability.curvature", "solon.interpretability.ground_truth", "solon.interpretability.dictionary", "solon.interpretability.dictionary_files", "solon.interpretability.steering", "solon.interpretability.features"},
    {"solon.interpretability.influence", "solon.interpretability.objectives"},
    {"solon.interpretability.ladder"},
    {"solon.scaling.ability", "solon.scaling.frontier", "solon.alignment.quality", "solon.alignment.objectives", "solon.alignment.red_teaming", "solon.alignment.layout_umap", "solon.alignment.toy_writer"},
    {"solon.alignment.model_written"},
    {"solon.alignment.written_kinds"},
    {"solon.records.files", "solon.records.progress", "solon.records.codecs", "solon.records.index", "solon.records.report", "solon.records.dashboard"},
    {"solon.records.run", "solon.records.page"},
    {"solon.studies.catalogue", "solon.studies.settings", "solon.studies.showing"},
    {"solon.studies.measuring"},
    {"solon.studies.measuring_report"},
    {"solon.studies.comparing"},
    {"solon.studies.know_what_they_know_settings", "solon.studies.knowing_settings", "solon.studies.self_correction_report", "solon.studies.few_shot_report", "solon.studies.surprise_report", "solon.studies.scalable_oversight_report", "solon.studies.sycophancy_report", "solon.studies.model_written_report", "solon.studies.influence_report"},
    {"solon.studies.know_what_they_know_findings", "solon.studies.monosemanticity_settings", "solon.studies.features_page", "solon.studies.induction_heads_settings", "solon.studies.superposition_findings"},
    {"solon.studies.superposition_figures"},
    {"solon.studies.monosemanticity_report", "solon.studies.monosemanticity_planted", "solon.studies.induction_heads_report", "solon.studies.superposition_report"},
    {"solon.studies.know_what_they_know_tables"},
    {"solon.studies.know_what_they_know_report"},
    {"solon.studies.common", "solon.studies.toy_models", "solon.studies.constitutional_ai_evidence", "solon.studies.constitutional_ai_settings"},
    {"solon.studies.helpful_harmless_settings", "solon.studies.general_assistant_settings", "solon.studies.red_teaming_settings", "solon.studies.general_principles_settings"},
    {"solon.studies.helpful_harmless_evidence", "solon.studies.red_teaming_findings"},
    {"solon.studies.helpful_harmless_figures", "solon.studies.red_teaming_figures", "solon.studies.helpful_harmless_tournament"},
    {"solon.studies.constitutional_ai_report", "solon.studies.helpful_harmless_report", "solon.studies.general_assistant_report", "solon.studies.red_teaming_report", "solon.studies.general_principles_report"},
    {"solon.studies.constitutional_ai", "solon.studies.helpful_harmless", "solon.studies.general_assistant", "solon.studies.red_teaming", "solon.studies.general_principles", "solon.studies.know_what_they_know", "solon.studies.knowing", "solon.studies.self_correction", "solon.studies.global_opinions", "solon.studies.few_shot", "solon.studies.surprise", "solon.studies.scalable_oversight", "solon.studies.sycophancy", "solon.studies.model_written", "solon.studies.explaining", "solon.studies.influence", "solon.studies.monosemanticity", "solon.studies.features_moved", "solon.studies.induction_heads", "solon.studies.induction_heads_model", "solon.studies.superposition"},
    {"solon.commands.common"},
    {
        "solon.commands.align", "solon.commands.run", "solon.commands.studies", "solon.commands.chat", "solon.commands.sample",
        "solon.commands.score", "solon.commands.show", "solon.commands.measure", "solon.commands.doctor", "solon.commands.sweep", "solon.commands.lm_eval",
    },
    {"solon.commands.compare"},
    {"solon.commands.export", "solon.commands.helpful_harmless", "solon.commands.general_assistant", "solon.commands.red_teaming", "solon.commands.general_principles", "solon.commands.know_what_they_know", "solon.commands.knows", "solon.commands.self_correction", "solon.commands.global_opinions", "solon.commands.few_shot", "solon.commands.surprise", "solon.commands.scalable_oversight", "solon.commands.sycophancy", "solon.commands.model_written", "solon.commands.influence", "solon.commands.monosemanticity", "solon.commands.induction_heads", "solon.commands.superposition"},
    {"solon.commands.explain", "solon.commands.features"},
    {"solon.cli"},
    {"solon.__main__"},
]  # fmt: skip
SHELVES = ("solon.alignment", "solon.evaluation", "solon.interpretability", "solon.scaling")
RECORDS_USERS = ("solon.records", "solon.studies", "solon.commands")
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}


def modules() -> dict[str, ast.Module]:
    paths = [path for path in (ROOT / "solon").rglob("*.py") if path.name != "__init__.py"]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text()) for path in paths}


def imported(tree: ast.Module) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("solon"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if name in RANK else str(node.module) for name in names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("solon.")]
    return found


def test_every_module_has_a_layer() -> None:
    assert set(modules()) == set(RANK)


def test_imports_point_down() -> None:
    for name, tree in modules().items():
        for target in imported(tree):
            if target != "solon":
                assert RANK[target] < RANK[name], f"{name} may not import {target}"


def test_the_shelves_do_not_know_each_other() -> None:
    for name, tree in modules().items():
        own = next((shelf for shelf in SHELVES if name.startswith(shelf)), None)
        for target in imported(tree):
            other = next((shelf for shelf in SHELVES if target.startswith(shelf)), None)
            assert own is None or other is None or own == other, f"{name} may not import {target}"


def test_only_studies_and_commands_write_records() -> None:
    for name, tree in modules().items():
        if not name.startswith((*RECORDS_USERS, "solon.cli")):
            assert not [target for target in imported(tree) if target.startswith("solon.records")], name


def test_no_import_hides_in_a_function_or_behind_type_checking() -> None:
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.If, ast.Try)):
                inner = [child for child in ast.walk(node) if isinstance(child, (ast.Import, ast.ImportFrom))]
                assert not inner, f"{name}: {getattr(node, 'name', type(node).__name__)} hides an import"


def test_words_need_no_torch() -> None:
    trees = modules()
    words = [name for name in trees if RANK[name] < RANK["solon.models.base"]] + [
        "solon.cli",
        "solon.studies.catalogue",
        "solon.commands.studies",
        "solon.commands.run",
    ]
    for name in words:
        roots = {alias.name.split(".")[0] for node in ast.walk(trees[name]) if isinstance(node, ast.Import) for alias in node.names}
        roots |= {str(node.module).split(".")[0] for node in ast.walk(trees[name]) if isinstance(node, ast.ImportFrom)}
        assert not roots & {"torch", "transformers"}, name


def test_modules_and_functions_stay_small() -> None:
    for path in (ROOT / "solon").rglob("*.py"):
        text = path.read_text()
        assert text.count("\n") <= 330, f"{path.name} has {text.count(chr(10))} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 75, f"{path.name}: {node.name}"
