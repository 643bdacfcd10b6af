class TrainingRunner: pass
