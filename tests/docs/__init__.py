"""What the documentation says is run: its code blocks, its examples, its links, and the numbers it quotes."""
