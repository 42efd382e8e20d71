"""The peer of scaling.py: the Fashion-MNIST CNN in a bare loop, one thread, as DDP where torchrun started it.

    python _bare_ddp.py FOLDER EPOCHS                                     # alone
    python -m torch.distributed.run --nproc-per-node 2 _bare_ddp.py FOLDER EPOCHS

FOLDER has images.npy and labels.npy. Prints images/s of each epoch, all workers together, as a JSON list.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from _bare_cnn import BATCH, build_network, load_images
from torch import nn


def main(folder: Path, num_epochs: int) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    images, labels = load_images(folder)
    model: nn.Module = build_network()
    rank, num_workers = 0, 1
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
        rank, num_workers = dist.get_rank(), dist.get_world_size()
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    speeds = []
    for epoch in range(num_epochs):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch))
        if num_workers > 1:
            dist.barrier()
        began = time.perf_counter()
        for batch in order.split(BATCH):  # type: ignore[no-untyped-call]
            index = batch[rank::num_workers]
            loss = F.cross_entropy(model(images[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        speeds.append(len(images) / (time.perf_counter() - began))
    if rank == 0:
        print(json.dumps(speeds), flush=True)
    if num_workers > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
