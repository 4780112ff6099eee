"""Fine-tune a ViT-B of timm, once without DropPath and once with it (chapter 6)."""

# ruff: noqa  as it is printed there
# fmt: off

import timm
import torch
import torch.nn as nn
import torch.nn.functional as F
from timm.data import create_transform
from timm.data import resolve_model_data_config
from timm.optim import create_optimizer_v2
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from regdrop_lite.tools import audit

n = 10  # classes
name = "vit_base_patch16_224.augreg2_in21k_ft_in1k"
extra, layers = {}, None
# MAE: name = "vit_base_patch16_224.mae", and
# extra, layers = {"global_pool": "avg"}, 0.65
runs = [(0, 0.05), (0.1, 0.05)]  # p, weight decay
# More: (0.05, 0.05), (0.2, 0.05); (0, 0.02), (0, 0.2)
epochs, rate, seed = 20, 5e-5, 0
batch = 64  # out of memory? 32, and half the rate
workers = 8  # processes that read photographs
cuda = torch.cuda.is_available()
device = "cuda" if cuda else "cpu"
half = torch.autocast(device, torch.bfloat16, enabled=cuda)

def build(p):
    return timm.create_model(
        name, pretrained=True, num_classes=n,
        drop_path_rate=p, **extra).to(device)

def load(net, folder, training):
    about = resolve_model_data_config(net)
    view = create_transform(**about, is_training=training)
    order = torch.Generator().manual_seed(seed)
    photos = ImageFolder(folder, view)
    return DataLoader(
        photos, batch, shuffle=training, generator=order,
        num_workers=workers, pin_memory=cuda)

def score(net, loader):  # 1 where its answer is right
    net.eval()
    with torch.no_grad(), half:
        right = [net(x.to(device)).argmax(1).cpu() == y
                 for x, y in loader]
    return torch.cat(right).double()

answers, chosen_by, files = [], [], []
for p, decay in runs:  # the first one is the control
    torch.manual_seed(seed)  # the same new head
    net = build(p)
    if p:  # at 0 there is nothing to audit
        x = torch.rand(32, 3, 224, 224, device=device)
        print(audit(net, x, draws=30))
    train = load(net, "photos/train", True)
    plain = load(net, "photos/train", False)
    valid = load(net, "photos/valid", False)
    test = load(net, "photos/test", False)
    optimizer = create_optimizer_v2(
        net, "adamw", lr=rate, weight_decay=decay,
        layer_decay=layers)
    peaks = [rate * group.get("lr_scale", 1)
             for group in optimizer.param_groups]
    curve = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peaks, total_steps=epochs * len(train))
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
        found = score(net, valid).mean()
        print(f"epoch {epoch + 1}: validation {found:.3f}")
    learnt = score(net, plain).mean()
    print(f"p = {p}, weight decay {decay}: "
          f"training {learnt:.3f}, validation {found:.3f}")
    file = f"{name}_p{p}_decay{decay}_seed{seed}.pt"
    torch.save(net.state_dict(), file)
    files.append(file)
    chosen_by.append(found)
    answers.append(score(net, test))

# The best of the others, by validation, on new photographs.
best = max(range(1, len(runs)), key=chosen_by.__getitem__)
one, two = answers[0], answers[best]
b, c = int((one > two).sum()), int((two > one).sum())
print(f"on photos/test only {runs[0]} is right: {b}, "
      f"only {runs[best]}: {c}")
print(f"accuracy: {one.mean():.3f}, {two.mean():.3f}")
print(f"difference: {c - b:+d}; two standard errors: "
      f"{2 * (b + c) ** 0.5:.1f}")
