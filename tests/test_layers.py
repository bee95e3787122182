"""The architecture is a test: imports only point down this list, and none hides in a function."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
LAYERS = [
    {"solon.errors"},
    {"solon.pool.maps"},
    {"solon.pool.on_ray"},
    {"solon.pool.launch_ray"},
    {"solon.words.conversation"},
    {
        "solon.words.comparison",
        "solon.words.question",
        "solon.words.constitution",
        "solon.statistics.intervals",
    },
    {
        "solon.statistics.calibration",
        "solon.statistics.elo",
        "solon.statistics.paired",
        "solon.statistics.logistic",
        "solon.scaling.memory",
    },
    {"solon.data.tables", "solon.data.rows", "solon.data.packaged"},
    {"solon.data.texts", "solon.data.published", "solon.data.toy_world", "solon.data.handover"},
    {
        "solon.data.exchange",
        "solon.data.attacks",
        "solon.studies.general_principles.traits",
        "solon.studies.model_written.behaviours",
        "solon.data.problems",
    },
    {"solon.data.bias", "solon.data.survey"},
    {"solon.data.evaluations", "solon.studies.global_opinions.world"},
    {
        "solon.models.base",
        "solon.models.backbones.cache",
        "solon.models.backbones.heads",
        "solon.models.adapters",
        "solon.models.weights",
        "solon.models.memory",
    },
    {"solon.models.backbones.attention"},
    {
        "solon.models.trie",
        "solon.models.backbones.backbone",
        "solon.models.dialogue",
        "solon.models.choice",
        "solon.models.scripted",
        "solon.models.remote",
    },
    {"solon.models.backbones.llama", "solon.models.backbones.graphs"},
    {
        "solon.models.backbones.small",
        "solon.models.backbones.huggingface",
        "solon.models.sampling",
        "solon.models.scoring",
        "solon.models.activations",
    },
    {"solon.models.scalar"},
    {"solon.models.torch_model"},
    {"solon.models.huggingface", "solon.models.backbones.small_files"},
    {"solon.models.embedded", "solon.models.vllm"},
    {"solon.models.load"},
    {"solon.models.spread", "solon.evaluation.lm_eval_model"},
    {"solon.training.steps", "solon.training.losses", "solon.training.parallel"},
    {"solon.training.optimiser"},
    {"solon.training.thrift"},
    {"solon.training.fit"},
    {"solon.training.improve"},
    {
        "solon.alignment.critique",
        "solon.alignment.feedback",
        "solon.alignment.preference",
        "solon.alignment.overoptimisation",
        "solon.alignment.outliers",
        "solon.alignment.distillation",
        "solon.evaluation.replies",
        "solon.evaluation.duel",
        "solon.evaluation.graders",
    },
    {"solon.evaluation.measure"},
    {
        "solon.evaluation.scores",
        "solon.evaluation.bias",
        "solon.evaluation.opinions",
        "solon.evaluation.self_knowledge",
        "solon.evaluation.knowledge",
        "solon.evaluation.selective",
        "solon.studies.few_shot.scoring",
        "solon.studies.scalable_oversight.oversight",
        "solon.studies.sycophancy.measures",
        "solon.studies.sycophancy.preference_features",
    },
    {"solon.studies.self_correction.conditions"},
    {
        "solon.studies.self_correction.toy",
        "solon.studies.sycophancy.toy",
        "solon.studies.sycophancy.posterior_nuts",
        "solon.evaluation.inspect_logs",
    },
    {"solon.studies.know_what_they_know.toy_facts"},
    {
        "solon.interpretability.linear",
        "solon.interpretability.candidates",
        "solon.interpretability.autoencoder",
        "solon.interpretability.stream",
        "solon.studies.monosemanticity.directions",
        "solon.studies.monosemanticity.toy_language",
        "solon.interpretability.labels",
        "solon.interpretability.induction",
        "solon.studies.induction_heads.repeats",
        "solon.studies.superposition.toy_model",
        "solon.studies.superposition.geometry",
    },
    {
        "solon.interpretability.curvature",
        "solon.studies.influence.ground_truth",
        "solon.interpretability.dictionary",
        "solon.interpretability.dictionary_files",
        "solon.interpretability.steering",
        "solon.interpretability.features",
    },
    {"solon.interpretability.influence", "solon.interpretability.objectives"},
    {"solon.studies.influence.ladder"},
    {
        "solon.studies.surprise.ability",
        "solon.scaling.frontier",
        "solon.alignment.quality",
        "solon.alignment.objectives",
        "solon.alignment.red_teaming",
        "solon.alignment.layout_umap",
        "solon.studies.model_written.toy",
    },
    {"solon.studies.model_written.writing"},
    {"solon.studies.model_written.kinds"},
    {
        "solon.records.files",
        "solon.records.progress",
        "solon.records.codecs",
        "solon.records.index",
        "solon.records.report",
        "solon.records.dashboard",
    },
    {"solon.records.run", "solon.records.page"},
    {"solon.study.catalogue", "solon.study.settings", "solon.study.claims"},
    {"solon.study.outcomes"},
    {"solon.study.measurement"},
    {"solon.study.comparing"},
    {
        "solon.studies.know_what_they_know.settings",
        "solon.tools.knows_settings",
        "solon.studies.self_correction.report",
        "solon.studies.few_shot.report",
        "solon.studies.surprise.report",
        "solon.studies.scalable_oversight.report",
        "solon.studies.sycophancy.report",
        "solon.studies.model_written.report",
        "solon.studies.influence.report",
    },
    {
        "solon.studies.know_what_they_know.results",
        "solon.studies.monosemanticity.settings",
        "solon.studies.monosemanticity.page",
        "solon.studies.induction_heads.settings",
        "solon.studies.superposition.results",
    },
    {"solon.studies.superposition.figures"},
    {
        "solon.studies.monosemanticity.report",
        "solon.studies.monosemanticity.planted",
        "solon.studies.induction_heads.report",
        "solon.studies.superposition.report",
    },
    {"solon.studies.know_what_they_know.tables"},
    {"solon.studies.know_what_they_know.report"},
    {
        "solon.study.stages",
        "solon.study.toy_models",
        "solon.studies.constitutional_ai.evidence",
        "solon.studies.constitutional_ai.settings",
    },
    {
        "solon.studies.helpful_harmless.settings",
        "solon.studies.general_assistant.settings",
        "solon.studies.red_teaming.settings",
        "solon.studies.general_principles.settings",
    },
    {"solon.studies.helpful_harmless.evidence", "solon.studies.red_teaming.results"},
    {
        "solon.studies.helpful_harmless.figures",
        "solon.studies.red_teaming.figures",
        "solon.studies.helpful_harmless.tournament",
    },
    {
        "solon.studies.constitutional_ai.report",
        "solon.studies.helpful_harmless.report",
        "solon.studies.general_assistant.report",
        "solon.studies.red_teaming.report",
        "solon.studies.general_principles.report",
    },
    {
        "solon.studies.constitutional_ai.study",
        "solon.studies.helpful_harmless.study",
        "solon.studies.general_assistant.study",
        "solon.studies.red_teaming.study",
        "solon.studies.general_principles.study",
        "solon.studies.know_what_they_know.study",
        "solon.tools.knows",
        "solon.studies.self_correction.study",
        "solon.studies.global_opinions.study",
        "solon.studies.few_shot.study",
        "solon.studies.surprise.study",
        "solon.studies.scalable_oversight.study",
        "solon.studies.sycophancy.study",
        "solon.studies.model_written.study",
        "solon.tools.explain",
        "solon.studies.influence.study",
        "solon.studies.monosemanticity.study",
        "solon.tools.features",
        "solon.studies.induction_heads.study",
        "solon.studies.induction_heads.given_model",
        "solon.studies.superposition.study",
    },
    {"solon.study.conduct"},
    {
        "solon.studies.constitutional_ai.inputs",
        "solon.commands.run",
        "solon.commands.studies",
        "solon.commands.chat",
        "solon.commands.sample",
        "solon.commands.score",
        "solon.commands.show",
        "solon.commands.measure",
        "solon.commands.doctor",
        "solon.commands.sweep",
        "solon.commands.lm_eval",
    },
    {"solon.commands.compare"},
    {
        "solon.commands.export",
        "solon.studies.helpful_harmless.inputs",
        "solon.studies.general_assistant.inputs",
        "solon.studies.red_teaming.inputs",
        "solon.studies.general_principles.inputs",
        "solon.studies.know_what_they_know.inputs",
        "solon.commands.knows",
        "solon.studies.self_correction.inputs",
        "solon.studies.global_opinions.inputs",
        "solon.studies.few_shot.inputs",
        "solon.studies.surprise.inputs",
        "solon.studies.scalable_oversight.inputs",
        "solon.studies.sycophancy.inputs",
        "solon.studies.model_written.inputs",
        "solon.studies.influence.inputs",
        "solon.studies.monosemanticity.inputs",
        "solon.studies.induction_heads.inputs",
        "solon.studies.superposition.inputs",
    },
    {"solon.commands.explain", "solon.commands.features"},
    {"solon.cli"},
    {"solon.__main__"},
]
SHELVES = ("solon.alignment", "solon.evaluation", "solon.interpretability", "solon.scaling")
RECORDS_USERS = ("solon.records", "solon.studies", "solon.commands")
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}


def modules() -> dict[str, ast.Module]:
    paths = [path for path in (ROOT / "solon").rglob("*.py") if path.name != "__init__.py"]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text()) for path in paths
    }


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
        "solon.study.catalogue",
        "solon.commands.studies",
        "solon.commands.run",
    ]
    for name in words:
        roots = {
            alias.name.split(".")[0]
            for node in ast.walk(trees[name])
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        roots |= {
            str(node.module).split(".")[0]
            for node in ast.walk(trees[name])
            if isinstance(node, ast.ImportFrom)
        }
        assert not roots & {"torch", "transformers"}, name


def test_modules_and_functions_stay_small() -> None:
    for path in (ROOT / "solon").rglob("*.py"):
        text = path.read_text()
        assert text.count("\n") <= 330, f"{path.name} has {text.count(chr(10))} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 75, f"{path.name}: {node.name}"
