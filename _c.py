import torch, torch._dynamo
from reid_core.losses.co_refine import *
a=torch.randn(5,33,requires_grad=True);b=torch.randn(5,33,requires_grad=True)
def f(a,b):
    x,y=co_refine_pair_loss(a,b,1.0,1.0,0.5)
    return x.mean()+y.mean()
c=torch.compile(f,fullgraph=True)
z=c(a,b); print(z,f(a,b)); z.backward(); ga=a.grad.clone(); a.grad=None; f(a,b).backward(); print((a.grad-ga).abs().max())
def g(a,b): return co_refine_loss(a,b.detach(),backend='native').sum()
print(torch.compile(g,fullgraph=True)(a,b),g(a,b))
cd=torch.compile(f,fullgraph=True,dynamic=True); print(cd(a,b))
try:
    torch.autograd.grad(torch.autograd.grad(f(a,b),a,create_graph=True)[0].sum(),a)
except RuntimeError as e: print('double:',e)
