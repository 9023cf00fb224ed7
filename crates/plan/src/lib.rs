//! Pure decisions: split, rollout, placement, scaling, judgement, each with its reasons
