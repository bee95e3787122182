from solon.alignment.preference import PreferenceModel as PreferenceModel
from solon.api import evaluate as evaluate
from solon.api import load as load
from solon.api import run as run
from solon.errors import InputError as InputError
from solon.models.choice import choose as choose
from solon.models.scripted import ScriptedModel as ScriptedModel
from solon.models.torch_model import TorchModel as TorchModel
from solon.records.frames import frame as frame
from solon.records.report import Report as Report
from solon.records.run import Run as Run
from solon.training.fit import fit as fit
from solon.training.fit import reply_cross_entropy as reply_cross_entropy
from solon.training.improve import RLConfig as RLConfig
from solon.training.improve import improve as improve
from solon.training.optimiser import Plan as Plan
from solon.words.comparison import Comparison as Comparison
from solon.words.constitution import Constitution as Constitution
from solon.words.constitution import Principle as Principle
from solon.words.constitution import read_constitution as read_constitution
from solon.words.conversation import Conversation as Conversation
from solon.words.question import Problem as Problem
from solon.words.question import Question as Question

__version__: str
