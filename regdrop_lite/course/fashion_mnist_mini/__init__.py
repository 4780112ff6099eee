"""6,000 of the 70,000 images of Fashion-MNIST, and the script that selected them."""
