"""The same network by a loop of pytorch-metric-learning, as its documentation shows it, against `Embedder`.

Both learn contrastive pairs chosen in class-balanced batches of the same size, with the same Adam, for as many epochs.
Theirs reads images as every such loop does, one at a time through a transform and a DataLoader; it is timed with and
without worker processes, and the better counts. What is timed is learning alone. The 5-NN accuracy of both is shown:
speed at another quality would mean nothing.
"""

from __future__ import annotations

from typing import Any

from benchmarks.measuring import MNIST, measured, median

ROUNDS = 3
EPOCHS = 3
BATCH = 120
"""Ten classes of twelve: what our batch of 128 becomes, since it holds as many of each."""
WORKERS = (0, 2)

THEIRS = """
import json, sys, time
import numpy as np, torch
from PIL import Image
from pytorch_metric_learning import distances, losses, miners, samplers
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from torch.utils.data import DataLoader, Dataset
from mekiki import load_images

epochs, batch, workers = map(int, sys.argv[1:4])

class Mnist(Dataset):  # that of torchvision, with ToTensor and Normalize
    def __init__(self, split):
        self.data, self.targets = split.pixels, split.labels

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        image = Image.fromarray(self.data[index])
        tensor = torch.from_numpy(np.asarray(image, np.float32) / 255.0)[None]
        return (tensor - 0.1307) / 0.3081, int(self.targets[index])

torch.manual_seed(0)
np.random.seed(0)
train, test = load_images("mnist")
dataset = Mnist(train)
sampler = samplers.MPerClassSampler(train.labels, m=batch // 10, batch_size=batch, length_before_new_iter=len(dataset))
loader = DataLoader(dataset, batch_size=batch, sampler=sampler, num_workers=workers, persistent_workers=workers > 0)
model = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2))
plane = distances.LpDistance(normalize_embeddings=False)  # two dimensions, not a circle
loss_func = losses.ContrastiveLoss(pos_margin=0, neg_margin=1, distance=plane)
mining_func = miners.MultiSimilarityMiner(distance=plane)  # the best and fastest of theirs with this loss
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

seconds = []
for epoch in range(epochs):
    start = time.perf_counter()
    model.train()
    for data, labels in loader:
        optimizer.zero_grad()
        embeddings = model(data)
        loss = loss_func(embeddings, labels, mining_func(embeddings, labels))
        loss.backward()
        optimizer.step()
    seconds.append(time.perf_counter() - start)

model.eval()
with torch.no_grad():
    known, asked = (model((torch.from_numpy(s.pixels) / 255 - 0.1307) / 0.3081).numpy() for s in (train, test))
accuracy = KNeighborsClassifier(5).fit(known, train.labels).score(asked, test.labels)
print(json.dumps({"seconds_per_epoch": sum(seconds) / epochs, "accuracy": float(accuracy)}))
"""

OURS = """
import json, sys
from mekiki import Embedder, load_images
train, test = load_images("mnist")
epochs, batch = map(int, sys.argv[1:3])
embedder = Embedder(loss="online-contrastive", epochs=epochs, batch_size=batch).fit(train.pixels, train.labels)
print(json.dumps({"seconds_per_epoch": sum(embedder.history_["seconds"]) / epochs,
                  "accuracy": embedder.score(test.pixels, test.labels)}))
"""


def main() -> dict[str, Any] | None:
    """Measure and print."""
    if not MNIST.is_dir():
        print("against_pml: needs MNIST ($MEKIKI_DATA/mnist); skipped")
        return None
    rounds = []
    for number in range(1, ROUNDS + 1):
        theirs = {workers: measured(THEIRS, EPOCHS, BATCH, workers) for workers in WORKERS}
        ours = measured(OURS, EPOCHS, BATCH)
        rounds.append({"theirs": theirs, "ours": ours})
        told = ", ".join(f"{run['seconds_per_epoch']:.2f} s with {w} workers" for w, run in theirs.items())
        print(f"round {number}: theirs {told}; ours {ours['seconds_per_epoch']:.2f} s an epoch")
    best = min(WORKERS, key=lambda w: median(r["theirs"][w]["seconds_per_epoch"] for r in rounds))
    result = {
        "epochs": EPOCHS,
        "batch": BATCH,
        "workers": best,
        "times_faster": median(
            r["theirs"][best]["seconds_per_epoch"] / r["ours"]["seconds_per_epoch"] for r in rounds
        ),
        "accuracy_theirs": median(r["theirs"][best]["accuracy"] for r in rounds),
        "accuracy_ours": median(r["ours"]["accuracy"] for r in rounds),
        "rounds": rounds,
    }
    print(
        f"against_pml: {result['times_faster']:.1f} times faster than their loop with {best} workers (median of "
        f"{ROUNDS}); 5-NN after {EPOCHS} epochs: theirs {result['accuracy_theirs']:.4f}, "
        f"ours {result['accuracy_ours']:.4f}"
    )
    return result
