"""A SmolVLM's configuration and processor, as a folder in place of what LeRobot takes from a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# SmolVLM2-500M, of whose 32 layers LeRobot takes 16 by itself.
TEXT = {
    "hidden_size": 960,
    "intermediate_size": 2560,
    "num_hidden_layers": 16,
    "num_attention_heads": 15,
    "num_key_value_heads": 5,
    "head_dim": 64,
}
VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 512,
    "patch_size": 16,
}
SMALL_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
SMALL_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 16,
}


def tokenizer() -> Any:
    """A few hundred words, in place of a tokenizer from a hub."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    made.train_from_iterator(["sort the blocks", "dry run", "pick up the red cube"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<end_of_utterance>",
        extra_special_tokens={
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
    )


def write_backbone(folder: Path, *, small: bool) -> Path:
    """Write what LeRobot's SmolVLA builds its VLM from, without weights; return the folder."""
    from transformers import SmolVLMConfig, SmolVLMImageProcessor, SmolVLMProcessor, SmolVLMVideoProcessor

    words = tokenizer()
    text, vision, scale = (SMALL_TEXT, SMALL_VISION, 2) if small else (TEXT, VISION, 4)
    vocabulary = {"model_type": "llama", "vocab_size": len(words) if small else 49280, "pad_token_id": 0}
    config = SmolVLMConfig(
        text_config=vocabulary | text,
        vision_config=vision,
        scale_factor=scale,
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )
    config.save_pretrained(folder)
    side = {"longest_edge": vision["image_size"]}
    images = SmolVLMImageProcessor(size=side, max_image_size=side)
    tokens = (vision["image_size"] // vision["patch_size"] // scale) ** 2
    SmolVLMProcessor(images, words, SmolVLMVideoProcessor(), image_seq_len=tokens).save_pretrained(folder)
    return folder
