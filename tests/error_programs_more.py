"""More programs that raise: derivatives, changes in place, unused inputs; see `error_programs`."""

from __future__ import annotations

from error_programs import program

__all__: list[str] = []

# No derivative (issue 12, B4).

DERIVATIVE = "no derivative"
program(
    "gradient penalty of distances",
    """
    x, w = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4)
    y = torch.cdist(x, w).sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)  # here
    g.pow(2).sum().backward()
    """,
    DERIVATIVE,
    ("cdist_backward",),
    ("detach that input",),
)
program(
    "step function",
    """
    x = torch.randn(3, requires_grad=True)
    y = torch.heaviside(x, torch.ones(3))  # here
    y.sum().backward()
    """,
    DERIVATIVE,
    ("heaviside", "x of shape [3]"),
)
program(
    "incomplete gamma function",
    """
    a = torch.ones(2, requires_grad=True)
    y = torch.igamma(a, torch.ones(2))  # here
    y.sum().backward()
    """,
    DERIVATIVE,
    ("igamma", "argument input"),
)
program(
    "gradient penalty of a ctc loss",
    """
    x = torch.randn(5, 2, 4, requires_grad=True)
    y = F.ctc_loss(x.log_softmax(2), torch.ones(2, 3).long(), [5, 5], [3, 3])
    (g,) = torch.autograd.grad(y, x, create_graph=True)  # here
    g.pow(2).sum().backward()
    """,
    DERIVATIVE,
    ("ctc_loss_backward",),
)
program(
    "operation of a library without a derivative",
    """
    @torch.library.custom_op("gradviz_forum::thrice", mutates_args=())
    def thrice(x: torch.Tensor) -> torch.Tensor:
        return x * 3
    x = torch.ones(3, requires_grad=True)
    y = thrice(x)  # here
    y.sum().backward()
    """,
    DERIVATIVE,
    ("thrice",),
)
program(
    "healthy: gradient penalty of a square",
    """
    x = torch.ones(3, requires_grad=True)
    (g,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    g.pow(2).sum().backward()
    """,
    then="x.grad.tolist() == [36, 36, 36]",
)

# Changes in place by modules and optimizers (issue 12, C6).

CHANGED = "changed in place"
program(
    "lookup that renormalises the table",
    """
    table, proj = nn.Embedding(5, 3, max_norm=1.0), nn.Linear(3, 2)
    index = torch.tensor([1, 2])
    everyone = table.weight @ proj.weight.t()  #-
    #+ everyone = table.weight.clone() @ proj.weight.t()
    some = proj(table(index))  # here
    ((everyone.sum() + some.sum()) ** 2).backward()
    """,
    CHANGED,
    ("max_norm", "table.weight"),
    ("x = x + 1",),
    "table.weight.grad.abs().sum() > 0",
)
program(
    "healthy: batch statistics updated in between",
    """
    norm = nn.BatchNorm1d(3)
    x = torch.randn(4, 3, requires_grad=True)
    a = x * norm.running_var
    b = norm(torch.randn(4, 3))
    (a.sum() + b.sum()).backward()
    """,
    then="x.grad is not None",
)
program(
    "weights loaded before backward",
    """
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))
    best = {name: each.clone() for name, each in model.state_dict().items()}
    loss = model(torch.randn(4, 3)).pow(2).mean()
    #+ loss.backward()
    model.load_state_dict(best)  # here
    loss.backward()  #-
    """,
    CHANGED,
    ("load_state_dict",),
    ("x = x + 1",),
    "model[0].weight.grad.abs().sum() > 0",
)
program(
    "step before the second backward",
    """
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    out = model(torch.randn(4, 3))
    one, two = out.mean(), out.pow(2).mean()
    one.backward(retain_graph=True)
    optimizer.step()  #-  # here
    two.backward()
    #+ optimizer.step()
    """,
    CHANGED,
    ("the optimizer's step",),
    ("x = x + 1", "x.clone()"),
    "model[0].weight.grad.abs().sum() > 0",
)
program(
    "average of weights that the graph uses",
    """
    student, teacher = nn.Linear(3, 3), nn.Linear(3, 3)
    loss = (teacher(torch.tanh(student(torch.randn(4, 3))))).pow(2).mean()
    #+ loss.backward()
    with torch.no_grad():
        for slow, fast in zip(teacher.parameters(), student.parameters()):
            slow.lerp_(fast, 0.1)  # here
    loss.backward()  #-
    """,
    CHANGED,
    ("lerp_", "teacher.weight"),
    (),
    "student.weight.grad.abs().sum() > 0",
)
program(
    "weights initialized before backward",
    """
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    loss = model(torch.randn(4, 3)).pow(2).mean()
    #+ loss.backward()
    model[1].reset_parameters()  # here
    loss.backward()  #-
    """,
    CHANGED,
    ("1.weight",),
    (),
    "model[0].weight.grad.abs().sum() > 0",
)
program(
    "rectifier in place after a sigmoid",
    """
    w = torch.ones(3, requires_grad=True)
    h = torch.sigmoid(w)
    y = F.relu(h, inplace=True)  #-  # here
    #+ y = F.relu(h)
    y.sum().backward()
    """,
    CHANGED,
    ("relu_", "sigmoid"),
    (),
    "w.grad.abs().sum() > 0",
)
program(
    "healthy: normalized between two passes",
    """
    table = nn.Embedding(5, 3, max_norm=1.0)
    for _ in range(2):
        table(torch.tensor([1, 2])).pow(2).sum().backward()
    """,
    then="table.weight.grad.abs().sum() > 0",
)

# Inputs of torch.autograd.grad (issue 12, E2).

UNUSED = "input not used"
program(
    "parameters of a layer that was not called",
    """
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "never": nn.Linear(2, 1)})
    other = model["never"](torch.randn(3, 2))
    loss = other.sum()
    out = model["used"](torch.ones(3, 2)).sum()
    grads = torch.autograd.grad(out, list(model.parameters()))  # here
    """,
    UNUSED,
    ("never.weight", "never.bias"),
    ("other", "loss", " used.weight"),
)
program(
    "one input by keyword",
    """
    w, v = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    out = (w * 2).sum()
    torch.autograd.grad(outputs=out, inputs=v)  # here
    """,
    UNUSED,
    ("v (inputs[0])", "from out"),
    ("w (",),
)
program(
    "gradient with respect to a detached copy",
    """
    x = torch.ones(2, requires_grad=True)
    y = (x * 2).sum()
    z = x.detach().requires_grad_()
    torch.autograd.grad(y, [x, z])  # here
    """,
    UNUSED,
    ("z (inputs[1])",),
    ("x (",),
)
program(
    "gradient of the loss with respect to a later result",
    """
    x = torch.ones(2, requires_grad=True)
    h = x * 2
    later = h.exp()
    torch.autograd.grad(h.sum(), [h, later])  # here
    """,
    UNUSED,
    ("later (inputs[1])",),
)
program(
    "many inputs",
    """
    leaves = [torch.ones(1, requires_grad=True) for _ in range(8)]
    total = sum(leaves[:2])
    torch.autograd.grad(total, leaves)  # here
    """,
    UNUSED,
    ("inputs[2]", "3 more"),
)
program(
    "healthy: unused inputs are allowed",
    """
    w, v = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    found = torch.autograd.grad(w.sum(), [w, v], allow_unused=True)
    """,
    then="found[1] is None",
)


# Errors of autograd that had no rule of their own.

program(
    "leaf frozen and changed before backward",
    """
    w, v = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    loss = w.sum()
    w.requires_grad_(False)
    w.mul_(v)  #-  # here
    #+ with torch.no_grad(): w.mul_(v)  # in words
    loss.backward()
    """,
    "leaf changed in place",
    ("is a non-leaf tensor now",),
    then="w.grad is None",
)
program(
    "saved tensor detached in place",
    """
    w = torch.ones(2, requires_grad=True)
    h = w.exp()
    loss = (h * h).sum()
    h.detach_()  #-  # here
    #+ h = h.detach()  # in words
    loss.backward()
    """,
    "changed in place",
    ("detach_()",),
    then="w.grad is not None",
)
program(
    "dirty tensor not returned",
    """
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            x.mul_(2)
            return x.clone()  #-
            #+ return x  # in words
        @staticmethod
        def backward(ctx, grad):
            return grad * 2
    w = torch.ones(2, requires_grad=True)
    Double.apply(w * 1).sum().backward()  # here
    """,
    "wrong backward",
    ("ctx.mark_dirty",),
    then="w.grad.tolist() == [2.0, 2.0]",
)
program(
    "norm of NaN gradients",
    """
    w = torch.ones(2, requires_grad=True)
    distance = ((w - 1) ** 2).sum()
    loss = distance.sqrt()  #-
    #+ loss = (distance + 1e-6).sqrt()  # in words
    loss.backward()
    torch.nn.utils.clip_grad_norm_([w], 1.0, error_if_nonfinite=True)  # here
    """,
    "wrong gradient",
    ("in the gradient of w, 2 of 2 elements are NaN", "sqrt", "prog.py:7"),
    then="w.grad.isfinite().all()",
)
program(
    "whole QR decomposition",
    """
    x = torch.eye(3)[:, :2].clone().requires_grad_()
    q, r = torch.linalg.qr(x, mode="complete")  #-
    #+ q, r = torch.linalg.qr(x, mode="reduced")  # in words
    r.sum().backward()  # here
    """,
    "no derivative",
    ("mode='complete'",),
    then="x.grad is not None",
)
program(
    "phase of eigenvectors",
    """
    x = torch.tensor([[0.0, -1.0], [1.0, 0.5]], requires_grad=True)
    values, v = torch.linalg.eig(x)
    loss = v.real.sum()  #-
    #+ loss = v.abs().sum()  # in words
    loss.backward()  # here
    """,
    "no derivative",
    ("phase",),
    then="x.grad is not None",
)
program(
    "negative slope in place",
    """
    w = torch.ones(2, requires_grad=True)
    layer = torch.nn.LeakyReLU(-0.1, inplace=True)  #-
    #+ layer = torch.nn.LeakyReLU(-0.1)  # in words
    layer(w * 1).sum().backward()  # here
    """,
    "no derivative",
    ("negative slope",),
    then="w.grad is not None",
)
program(
    "requires_grad inside torch.func.grad",
    """
    def loss(x):
        x = x * 2
        x.requires_grad_()  #-  # here
        return (x ** 2).sum()
    g = torch.func.grad(loss)(torch.ones(2))
    """,
    "nothing to differentiate",
    ("torch.func",),
    then="g.tolist() == [8.0, 8.0]",
)
program(
    "condition inside vmap",
    """
    def bent(x):
        return x if x.sum() > 0 else -x  #-  # here
        #+ return torch.where(x.sum() > 0, x, -x)  # in words
    y = torch.func.vmap(bent)(-torch.ones(3, 2))
    """,
    "not a scalar",
    ("torch.vmap",),
    then="(y == 1).all()",
)
program(
    "Python function of a tensor that requires grad",
    """
    w = torch.ones(2, requires_grad=True)
    y = w.apply_(lambda each: each * 2)  #-  # here
    #+ y = w.detach().clone().apply_(lambda each: each * 2)  # in words
    """,
    "no derivative",
    ("apply_()",),
    then="y.tolist() == [2.0, 2.0] and w.tolist() == [1.0, 1.0]",
)
program(
    "state of an optimizer with other parameters",
    """
    model = torch.nn.Linear(2, 1)
    saved = torch.optim.Adam(model.parameters()).state_dict()
    model.bias.requires_grad_(False)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])  #-
    #+ optimizer = torch.optim.Adam(model.parameters())  # in words
    optimizer.load_state_dict(saved)  # here
    """,
    "optimizer refused",
    ("other parameters",),
    then="optimizer is not None",
)
program(
    "wrong formula found by gradcheck",
    """
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x ** 2
        @staticmethod
        def backward(ctx, grad):
            x, = ctx.saved_tensors
            return grad * x  #-
            #+ return grad * 2 * x  # in words
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(Square.apply, (x,))  # here
    """,
    "wrong backward",
    ("gradient of input 0 is not the derivative of output 0",),
    then="True",
)
