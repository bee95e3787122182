"""One thread for all tests: small matrices are slower on two, and results then never depend on the machine's
cores.
"""

import torch

torch.set_num_threads(1)
