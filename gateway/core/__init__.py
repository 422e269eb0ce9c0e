"""The pure core: every decision is made here and none is carried out."""
