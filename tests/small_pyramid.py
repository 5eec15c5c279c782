"""A pyramid of the real depth and shape with few channels."""

SMALLEST_PYRAMID = {
    "stem_channels": 4,
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 2, 1, 1],
    "num_attention_heads": [1, 1, 2, 2],
    "decoder_hidden_sizes": [16, 8, 8],
    "decoder_depths": [1, 1, 2],
    "decoder_num_attention_heads": [2, 1, 1],
    "image_size": [64, 64],
    "volume_size": [8, 32, 32],
    "projection_hidden_size": 16,
    "projection_size": 8,
    "num_prototypes": 32,
}
