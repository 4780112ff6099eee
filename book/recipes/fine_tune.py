"""Fine-tune a ViT-B of timm, once without DropPath and once with it (chapter 6)."""

# ruff: noqa  as it is printed there
# fmt: off

import timm
import torch
import torch.nn as nn
import torch.nn.functional as F
from timm.data import create_transform
from timm.data import resolve_model_data_config
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from regdrop_lite.tools import audit

name, n = "vit_base_patch16_224.mae", 10  # n classes
epochs, rate, seed = 20, 5e-5, 0
workers = 8  # processes that read photographs
cuda = torch.cuda.is_available()
device = "cuda" if cuda else "cpu"
half = torch.autocast(device, torch.bfloat16, enabled=cuda)

def load(net, folder, training):
    about = resolve_model_data_config(net)
    view = create_transform(**about, is_training=training)
    order = torch.Generator().manual_seed(seed)
    photos = ImageFolder(folder, view)
    return DataLoader(
        photos, 64, shuffle=training, generator=order,
        num_workers=workers, pin_memory=cuda)

answers = []
for p in (0, 0.1):  # the control, and DropPath
    torch.manual_seed(seed)  # the same new head
    net = timm.create_model(
        name, pretrained=True,
        num_classes=n, drop_path_rate=p).to(device)
    if p:  # in the control there is nothing to audit
        x = torch.rand(32, 3, 224, 224, device=device)
        print(audit(net, x, draws=30))
    train = load(net, "photos/train", True)
    valid = load(net, "photos/valid", False)
    optimizer = torch.optim.AdamW(
        net.parameters(), rate, weight_decay=0.05)
    curve = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=epochs * len(train))
    for epoch in range(epochs):
        net.train()
        for x, y in train:
            x, y = x.to(device), y.to(device)
            with half:
                loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.step()
    net.eval()
    with torch.no_grad(), half:
        right = [net(x.to(device)).argmax(1).cpu() == y
                 for x, y in valid]
    answers.append(torch.cat(right))
    print(f"p = {p}: {answers[-1].double().mean():.3f}")

one, two = answers
b, c = (one & ~two).sum(), (two & ~one).sum()
print(f"right in one arm only: {b} and {c}")
