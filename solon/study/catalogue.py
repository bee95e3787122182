"""Every paper of the mission, and the truth about what of it works here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Paper:
    """`works` and `lacks` say in words what can be used today and what cannot. `command` runs the study, if
    it runs.
    """

    study: str
    title: str
    arxiv: str
    works: str = ""
    lacks: str = "everything"
    command: str = ""

    @property
    def state(self) -> str:
        return "works" if self.command and not self.lacks else "partly" if self.works else "not yet"


PAPERS = (
    Paper(
        "constitutional_ai",
        "Constitutional AI: Harmlessness from AI Feedback",
        "2212.08073",
        "both stages, soft and chain-of-thought labels, two preference models, RLOO and PPO, report; "
        "`solon align`",
        "crowd Elo (needs people), scaling over model sizes, the absolute-harmfulness regression",
        "constitutional_ai",
    ),
    Paper(
        "helpful_harmless",
        "Training a Helpful and Harmless Assistant with RLHF",
        "2204.05862",
        "preference models over data, size, mixtures and weights; calibration; train and test models "
        "against the root of the KL; best of N; "
        "rounds against one; Elo with errors; strange prompts by layer; `solon run helpful_harmless`",
        "people's votes, seven sizes of model",
        "helpful_harmless",
    ),
    Paper(
        "general_assistant",
        "A General Language Assistant as a Laboratory for Alignment",
        "2112.00861",
        "a prompt, its distillate and nothing; imitation, binary discrimination and ranked preference "
        "modelling over sizes; preference-model "
        "pretraining, ranked and binarised; `solon run general_assistant`",
        "the paper's own six tasks, its HHH comparisons, TruthfulQA and alignment-tax evaluations, crowd Elo",
        "general_assistant",
    ),
    Paper(
        "general_principles",
        "Specific versus General Principles for Constitutional AI",
        "2310.13798",
        "five traits with questions and principles against one general principle in nine wordings; persona "
        "win rates; Elo over one refusal by "
        "step; `solon run general_principles`",
        "feedback models large enough for the paper's jump, a crowd, traits that a model named",
        "general_principles",
    ),
    Paper(
        "red_teaming",
        "Red Teaming Language Models to Reduce Harms",
        "2209.07858",
        "plain, prompted, rejection-sampling and RLHF defenders by size; attacks from a file, asked for, "
        "shown examples, reinforced; least "
        "harmlessness over turns clustered by attacker; a map of attacks; the published row format; `solon "
        "run red_teaming`",
        "a crowd of people and their ratings",
        "red_teaming",
    ),
    Paper(
        "model_written",
        "Discovering Language Model Behaviors with Model-Written Evaluations",
        "2212.09251",
        "statements, questions after gold examples, introductions and sentences by a model; a preference "
        "model's or a model's filter; balance; labels "
        "looked over blind; a map; models by size or step on what was written and on published sets; "
        "`solon run model_written`",
        "crowd workers (their labels are read from a file), how relevant an item is, models of 52B "
        "parameters",
        "model_written",
    ),
    Paper(
        "sycophancy",
        "Towards Understanding Sycophancy in Language Models",
        "2310.13548",
        "feedback, are-you-sure, suggestions, mimicry; Bayesian logistic regression of preferences on 23 "
        "features (HMC, NUTS as an extra); best of N by a "
        "preference model; `solon run sycophancy`",
        "free-form answers judged by a model, the non-sycophantic preference model, misconceptions by "
        "difficulty",
        "sycophancy",
    ),
    Paper(
        "know_what_they_know",
        "Language Models (Mostly) Know What They Know",
        "2207.05221",
        "multiple choice and its variants, True or False, one temperature, P(True) alone and after "
        "brainstorming, P(IK) by probe, adapters or the whole "
        "model, sources and hints, crossed models, baselines; `solon run know_what_they_know`, `solon knows`",
        "python synthesis, entropy of 200 samples, the paper's sizes",
        "know_what_they_know",
    ),
    Paper(
        "scalable_oversight",
        "Measuring Progress on Scalable Oversight",
        "2211.03540",
        "participants as people (answers read from a file) or simulated by a weak model, never together; "
        "weighted votes, five-bin calibration, assisted, "
        "unassisted, the model alone, after examples and best of many; `solon run scalable_oversight`",
        "the page where people take part",
        "scalable_oversight",
    ),
    Paper(
        "self_correction",
        "The Capacity for Moral Self-Correction",
        "2302.07459",
        "BBQ with the authors' scores, Winogender, admissions of made-up students, in three conditions "
        "over models; `solon run self_correction`",
        "the law-school data set, which may not be passed on; the paper's sizes",
        "self_correction",
    ),
    Paper("faithfulness", "Measuring Faithfulness in Chain-of-Thought Reasoning", "2307.13702"),
    Paper("question_decomposition", "Question Decomposition Improves Faithfulness", "2307.11768"),
    Paper(
        "global_opinions",
        "Measuring the Representation of Subjective Global Opinions",
        "2306.16388",
        "similarity to every country with intervals, cross-national and linguistic prompting, entropy, a "
        "map and a strip; `solon run global_opinions`",
        "translations, which the user gives",
        "global_opinions",
    ),
    Paper("human_eval", "Evaluating Large Language Models Trained on Code", "2107.03374"),
    Paper("apps", "Measuring Coding Challenge Competence with APPS", "2105.09938"),
    Paper("math", "Measuring Mathematical Problem Solving", "2103.03874"),
    Paper(
        "few_shot",
        "Language Models are Few-Shot Learners",
        "2005.14165",
        "zero, one and few examples over models, four scores of the options side by side, N-gram "
        "contamination with clean scores; `solon run few_shot`",
        "completions by beam search, training of the models",
        "few_shot",
    ),
    Paper(
        "surprise",
        "Predictability and Surprise in Large Generative Models",
        "2202.07785",
        "loss against exact match and per-token accuracy to the length on k-digit addition, over training "
        "and width; `solon run surprise`",
        "recidivism, toxicity and recommendation; language models over scale (`solon compare` draws any "
        "checkpoints)",
        "surprise",
    ),
    Paper(
        "influence",
        "Studying Large Language Model Generalization with Influence Functions",
        "2308.03296",
        "EK-FAC and K-FAC on linear layers, low-rank queries, by layer and token, TF-IDF candidates, "
        "tails; against the proximal response and retraining; "
        "`solon explain`, `solon run influence`",
        "outputs erased one by one (appendix B), layers split into blocks",
        "influence",
    ),
    Paper(
        "monosemanticity",
        "Scaling Monosemanticity",
        "2605.29358",
        "sparse autoencoders by an exactly sparse step on streamed activations, several at once; scaling "
        "laws and completeness on planted directions; "
        "specificity and sensitivity, steering, attribution, labels, one page of features; SAELens and "
        "sparsify forms; `solon run monosemanticity`, `solon features`",
        "comparison with neurons, and with a difference of means",
        "monosemanticity",
    ),
    Paper(
        "superposition",
        "Toy Models of Superposition",
        "2209.10652",
        "introduction, phase diagram against theory, geometry with a test for lines and its controls, tied "
        "features, learning, attacks, computation; "
        "`solon run superposition`",
        "attacks are found by ascent, so that vulnerability is a lower bound; sudden jumps while learning "
        "were looked for at one setting and not seen",
        "superposition",
    ),
    Paper(
        "induction_heads",
        "In-context Learning and Induction Heads",
        "2209.11895",
        "small transformers of one to three layers, smeared keys, over training: in-context score, prefix "
        "matching, copying, previous token, per-token losses, "
        "phase change, pattern-preserving ablation, paths; every head of a given model; "
        "`solon run induction_heads`",
        "the QK trace, models trained on text",
        "induction_heads",
    ),
    Paper("repeated_data", "Scaling Laws and Interpretability of Learning from Repeated Data", "2205.10487"),
    Paper("scaling_laws", "Scaling Laws for Neural Language Models", "2001.08361"),
    Paper("scaling_generative", "Scaling Laws for Autoregressive Generative Modeling", "2010.14701"),
    Paper("scaling_transfer", "Scaling Laws for Transfer", "2102.01293"),
    Paper("large_batch", "An Empirical Model of Large-Batch Training", "1812.06162"),
    Paper("many_faces", "The Many Faces of Robustness", "2006.16241"),
    Paper(
        "self_supervised_robustness",
        "Using Self-Supervised Learning Can Improve Model Robustness",
        "1906.12340",
    ),
    Paper("deepchrome", "DeepChrome 2.0", "2209.11923"),
    Paper(
        "sharpening_the_axe",
        "Pretraining & Reinforcement Learning: Sharpening the Axe Before Cutting the Tree",
        "2110.06497",
    ),
)
