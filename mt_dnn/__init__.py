"""Multi-task fine-tuning of BERT and XLM-R encoders with adversarial training."""
