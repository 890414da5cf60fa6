"""A multi-tower network and DeepFM, run by benchmarks/deep.py in an environment of its own.

Run: python deep_torch.py IN.npz OUT.npz. IN holds, for each slice, numbers of shape (n, numbers),
values of shape (n, fields) that are places in one table of embeddings, and labels; and the tower of
each field and number. OUT gets an array of test scores a network.
"""

import sys

import numpy as np
import torch
from torch import Tensor, nn

WIDTH = 8  # of an embedding
EPOCHS = 12
PATIENCE = 3  # epochs without a gain
BATCH = 1024


class Towers(nn.Module):
    """A small network for each group of columns, and one over their outputs."""

    def __init__(self, values: int, of_field: list[int], of_number: list[int]) -> None:
        super().__init__()
        self.embedded = nn.Embedding(values, WIDTH)
        nn.init.normal_(self.embedded.weight, std=0.01)
        self.fields = [np.flatnonzero(np.equal(of_field, one)) for one in set(of_field)]
        self.numbers = [np.flatnonzero(np.equal(of_number, one)) for one in set(of_field)]
        self.towers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(len(fields) * WIDTH + len(numbers), 32), nn.ReLU(), nn.Linear(32, 16)
            )
            for fields, numbers in zip(self.fields, self.numbers, strict=True)
        )
        self.head = nn.Sequential(
            nn.ReLU(), nn.Dropout(0.2), nn.Linear(16 * len(self.fields), 64), nn.ReLU(),
            nn.Dropout(0.2), nn.Linear(64, 1),
        )  # fmt: skip

    def forward(self, numbers: Tensor, values: Tensor) -> Tensor:
        embedded = self.embedded(values)
        outputs = [
            tower(torch.cat([embedded[:, fields].flatten(1), numbers[:, places]], 1))
            for tower, fields, places in zip(self.towers, self.fields, self.numbers, strict=True)
        ]
        return self.head(torch.cat(outputs, 1)).squeeze(1)


class DeepFM(nn.Module):
    """A factorization machine and a network over the same embeddings (Guo et al. 2017)."""

    def __init__(self, values: int, of_field: list[int], of_number: list[int]) -> None:
        super().__init__()
        self.embedded, self.weight = nn.Embedding(values, WIDTH), nn.Embedding(values, 1)
        nn.init.normal_(self.embedded.weight, std=0.01)
        nn.init.zeros_(self.weight.weight)
        self.linear = nn.Linear(len(of_number), 1)
        self.factors = nn.Parameter(torch.randn(len(of_number), WIDTH) * 0.01)
        self.deep = nn.Sequential(
            nn.Linear(len(of_field) * WIDTH + len(of_number), 128), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 1),
        )  # fmt: skip

    def forward(self, numbers: Tensor, values: Tensor) -> Tensor:
        embedded = self.embedded(values)
        each = torch.cat([embedded, numbers[:, :, None] * self.factors], 1)
        pairs = (each.sum(1) ** 2 - (each**2).sum(1)).sum(1) / 2
        first = self.weight(values).sum((1, 2)) + self.linear(numbers).squeeze(1)
        deep = self.deep(torch.cat([embedded.flatten(1), numbers], 1)).squeeze(1)
        return first + pairs + deep


def rows(given: "np.lib.npyio.NpzFile", name: str) -> tuple[Tensor, Tensor, Tensor]:
    numbers, values, label = (given[f"{name}_{part}"] for part in ("numbers", "values", "label"))
    return torch.from_numpy(numbers), torch.from_numpy(values).long(), torch.from_numpy(label)


def score(network: nn.Module, part: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Log-odds of rows, shape (n,)."""
    network.eval()
    with torch.no_grad():
        halves = (one.split(8192) for one in part[:2])
        pieces = [network(*both) for both in zip(*halves, strict=True)]
    return torch.cat(pieces)


def epochs(network: nn.Module, part: tuple[Tensor, Tensor, Tensor]):
    """Fit, and pause after each epoch."""
    steps = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-3)
    loss = nn.BCEWithLogitsLoss()
    while True:
        network.train()
        for some in torch.randperm(len(part[2])).split(BATCH):
            steps.zero_grad()
            loss(network(part[0][some], part[1][some]), part[2][some]).backward()
            steps.step()
        yield


def best_epochs(make, early, later) -> int:
    """The number of epochs with the least loss on the later rows."""
    torch.manual_seed(0)
    network, losses = make(), []
    for _ in epochs(network, early):
        chance = score(network, later)
        losses.append(float(nn.functional.binary_cross_entropy_with_logits(chance, later[2])))
        if len(losses) == EPOCHS or len(losses) - int(np.argmin(losses)) > PATIENCE:
            return int(np.argmin(losses)) + 1
    raise AssertionError("epochs never end by themselves")


def main(source: str, target: str) -> None:
    """Fit both networks, and write their chances of the test rows."""
    given = np.load(source)
    early, later, train, test = (rows(given, name) for name in ("fit", "later", "train", "test"))
    layout = int(given["values"]), given["of_field"].tolist(), given["of_number"].tolist()
    chances = {}
    for name, kind in (("multi-tower", Towers), ("DeepFM", DeepFM)):
        wanted = best_epochs(lambda kind=kind: kind(*layout), early, later)
        print(f"{name}: {wanted} epochs", file=sys.stderr, flush=True)
        logits = []
        for seed in range(int(given["seeds"])):
            torch.manual_seed(seed)
            network = kind(*layout)
            fitting = epochs(network, train)
            for _ in range(wanted):
                next(fitting)
            logits.append(score(network, test))
        chances[name] = torch.sigmoid(torch.stack(logits).mean(0)).numpy()
    np.savez(target, **chances)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
