"""Real shapes of training programs: the model and the loss live wherever people put them.

In each text, ``{step}`` is replaced by lines that compute ``loss`` from ``model`` and ``x``
and train; every program trains for 20 steps and then prints ``trained``.
"""

from __future__ import annotations

import textwrap

HEAD = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))

def optimizer_of(model):
    return torch.optim.SGD(model.parameters(), lr=0.01)

x = torch.ones(2, 3)
"""

# name -> (source of train.py, how it is started, its own arguments)
SHAPES: dict[str, tuple[str, list[str], list[str]]] = {
    "top level": (
        """
        model = build()
        opt = optimizer_of(model)
        for _ in range(20):
            opt.zero_grad()
            loss = model(x).pow(2).mean()
            loss.backward()
            opt.step()
        print("trained")
        """,
        ["train.py"],
        [],
    ),
    "main()": (
        """
        def main():
            model = build()
            opt = optimizer_of(model)
            for _ in range(20):
                opt.zero_grad()
                loss = model(x).pow(2).mean()
                loss.backward()
                opt.step()
            print("trained")
        if __name__ == "__main__":
            main()
        """,
        ["train.py"],
        [],
    ),
    "class Trainer": (
        """
        class Trainer:
            def __init__(self):
                self.model = build()
                self.opt = optimizer_of(self.model)
            def step(self):
                self.opt.zero_grad()
                loss = self.model(x).pow(2).mean()
                loss.backward()
                self.opt.step()
            def fit(self):
                for _ in range(20):
                    self.step()
        Trainer().fit()
        print("trained")
        """,
        ["train.py"],
        [],
    ),
    "-m": (
        """
        def main():
            model = build()
            opt = optimizer_of(model)
            for _ in range(20):
                loss = model(x).pow(2).mean()
                loss.backward()
                opt.step()
        if __name__ == "__main__":
            assert __spec__.name == "train"
            main()
            print("trained")
        """,
        ["-m", "train"],
        [],
    ),
    "relative imports": (
        """
        from .lessons import steps
        def main():
            model = build()
            opt = optimizer_of(model)
            for _ in range(steps):
                loss = model(x).pow(2).mean()
                loss.backward()
                opt.step()
        main()
        print("trained")
        """,
        ["-m", "package.train"],
        [],
    ),
    "click": (
        """
        import click
        @click.command()
        @click.option("--steps", type=int, default=3)
        def main(steps):
            model = build()
            opt = optimizer_of(model)
            for _ in range(steps):
                loss = model(x).pow(2).mean()
                loss.backward()
                opt.step()
            click.echo("trained")
        main()
        """,
        ["train.py"],
        ["--steps", "20"],
    ),
    "argparse": (
        """
        import argparse
        def main():
            parser = argparse.ArgumentParser()
            parser.add_argument("--steps", type=int, required=True)
            steps = parser.parse_args().steps
            model = build()
            opt = optimizer_of(model)
            for _ in range(steps):
                loss = model(x).pow(2).mean()
                loss.backward()
                opt.step()
            print("trained")
        main()
        """,
        ["train.py"],
        ["--steps", "20"],
    ),
    "dataclass config": (
        """
        from dataclasses import dataclass, field
        @dataclass
        class Config:
            lr: float = 0.1
            steps: int = 20
            sizes: list = field(default_factory=lambda: [3, 1])
        def train(config: Config):
            model = nn.Linear(*config.sizes)
            opt = torch.optim.SGD(model.parameters(), lr=config.lr)
            for _ in range(config.steps):
                loss = model(x).pow(2).mean()
                loss.backward()
                opt.step()
        train(Config())
        print("trained")
        """,
        ["train.py"],
        [],
    ),
    "closures": (
        """
        def make_step(model, opt):
            def step(batch):
                opt.zero_grad()
                loss = model(batch).pow(2).mean()
                loss.backward()
                opt.step()
            return step
        model = build()
        step = make_step(model, optimizer_of(model))
        for _ in range(20):
            step(x)
        print("trained")
        """,
        ["train.py"],
        [],
    ),
    "nested functions": (
        """
        def outer():
            model = build()
            def middle():
                opt = optimizer_of(model)
                def inner():
                    loss = model(x).pow(2).mean()
                    loss.backward()
                    opt.step()
                for _ in range(20):
                    inner()
            middle()
        outer()
        print("trained")
        """,
        ["train.py"],
        [],
    ),
    "LBFGS closure": (
        """
        def main():
            model = build()
            opt = torch.optim.LBFGS(model.parameters(), max_iter=4)
            def closure():
                opt.zero_grad()
                loss = model(x).pow(2).mean()
                loss.backward()
                return loss
            for _ in range(10):
                opt.step(closure)
        main()
        print("trained")
        """,
        ["train.py"],
        [],
    ),
    "thread": (
        """
        import threading
        def main():
            model = build()
            opt = optimizer_of(model)
            for _ in range(20):
                opt.zero_grad()
                loss = model(x).pow(2).mean()
                loss.backward()
                opt.step()
            print("trained")
            done.set()
        done = threading.Event()
        threading.Thread(target=main).start()
        done.wait()
        """,
        ["train.py"],
        [],
    ),
    "executor": (
        """
        from concurrent.futures import ThreadPoolExecutor
        def main():
            model = build()
            opt = optimizer_of(model)
            for _ in range(20):
                opt.zero_grad()
                loss = model(x).pow(2).mean()
                loss.backward()
                opt.step()
            return "trained"
        with ThreadPoolExecutor(1) as pool:
            print(pool.submit(main).result())
        """,
        ["train.py"],
        [],
    ),
    "async main": (
        """
        import asyncio
        async def batches():
            for _ in range(20):
                await asyncio.sleep(0)
                yield x
        async def main():
            model = build()
            opt = optimizer_of(model)
            async for batch in batches():
                loss = model(batch).pow(2).mean()
                loss.backward()
                opt.step()
        asyncio.run(main())
        print("trained")
        """,
        ["train.py"],
        [],
    ),
    "generator loop": (
        """
        def training(model, opt):
            while True:
                loss = model(x).pow(2).mean()
                loss.backward()
                opt.step()
                yield loss.item()
        model = build()
        for number, value in enumerate(training(model, optimizer_of(model))):
            if number == 19:
                break
        print("trained")
        """,
        ["train.py"],
        [],
    ),
    "sys.exit": (
        """
        import sys
        def main():
            model = build()
            opt = optimizer_of(model)
            for _ in range(20):
                loss = model(x).pow(2).mean()
                loss.backward()
                opt.step()
            print("trained")
            return 0
        sys.exit(main())
        """,
        ["train.py"],
        [],
    ),
    "two mains": (
        """
        def evaluate(model):
            with torch.no_grad():
                loss = model(x).pow(2).mean()
            return loss.item()
        def main():
            model = build()
            opt = optimizer_of(model)
            evaluate(model)
            for _ in range(20):
                loss = model(x).pow(2).mean()
                loss.backward()
                opt.step()
        main()
        print("trained")
        """,
        ["train.py"],
        [],
    ),
    "if TYPE_CHECKING": (
        """
        from __future__ import annotations
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from nowhere import Config
        def main(config: Config | None = None) -> None:
            model = build()
            opt = optimizer_of(model)
            for _ in range(20):
                loss = model(x).pow(2).mean()
                loss.backward()
                opt.step()
        main()
        print("trained")
        """,
        ["train.py"],
        [],
    ),
    "loss of another function": (
        """
        def loss_of(model):
            loss = model(x).pow(2).mean()
            return loss
        def main():
            model = build()
            opt = optimizer_of(model)
            for _ in range(20):
                opt.zero_grad()
                loss_of(model).backward()
                opt.step()
        main()
        print("trained")
        """,
        ["train.py"],
        [],
    ),
    "no optimizer": (
        """
        def main():
            model = build()
            for _ in range(20):
                loss = model(x).pow(2).mean()
                loss.backward()
                with torch.no_grad():
                    for parameter in model.parameters():
                        parameter -= 0.01 * parameter.grad
                        parameter.grad = None
        main()
        print("trained")
        """,
        ["train.py"],
        [],
    ),
    "DataLoader": (
        """
        from torch.utils.data import DataLoader
        def main():
            model = build()
            opt = optimizer_of(model)
            loader = DataLoader([torch.ones(3)] * 20, batch_size=2)
            for batch in loader:
                loss = model(batch).pow(2).mean()
                loss.backward()
                opt.step()
        main()
        print("trained")
        """,
        ["train.py"],
        [],
    ),
    "DataLoader with processes": (
        """
        from torch.utils.data import DataLoader
        def main():
            model = build()
            opt = optimizer_of(model)
            loader = DataLoader([torch.ones(3)] * 40, batch_size=2, num_workers=1)
            for batch in loader:
                loss = model(batch).pow(2).mean()
                loss.backward()
                opt.step()
        if __name__ == "__main__":
            main()
            print("trained")
        """,
        ["train.py"],
        [],
    ),
    "module:function": (
        """
        def main():
            model = build()
            opt = optimizer_of(model)
            for _ in range(20):
                loss = model(x).pow(2).mean()
                loss.backward()
                opt.step()
            print("trained")
        """,
        ["train:main"],
        [],
    ),
    "a name with spaces": (
        """
        def main():
            größe = 20
            model = build()
            opt = optimizer_of(model)
            for _ in range(größe):
                loss = model(x).pow(2).mean()
                loss.backward()
                opt.step()
            print("trained")
        main()
        """,
        ["my 'first' 🙂 training.py"],
        [],
    ),
}


def source_of(name: str) -> str:
    """The whole program."""
    body = textwrap.dedent(SHAPES[name][0]).strip("\n")
    future = "from __future__ import annotations\n"
    first = future if body.startswith(future) else ""
    return f"{first}{HEAD}\n{body.removeprefix(future)}\n"
