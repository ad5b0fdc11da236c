"""How is the loss curved, block by block, and along the steps that optimizers take?  The one place here with torch.

`problem` and `products` give matrix-free products with a Hessian or Gauss-Newton matrix, `lanczos` and `quadrature`
their spectra, `trace` their trace; `heterogeneity` compares blocks, `sharpness` looks along a direction, and
`quadratics` shows on problems of known spectrum why any of it matters.
"""
