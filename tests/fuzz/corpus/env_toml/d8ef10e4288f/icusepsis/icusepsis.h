/* Treat sepsis in intensive care: the MDP of Choudhary, Gupta and Thomas (2024), "ICU-Sepsis: A Benchmark MDP Built from
 * Real Medical Data", arXiv:2406.05646. 713 clusters of patients' states as found in MIMIC-III, and death (713),
 * survival (714) and an absorbing state that no episode sees (715). Action 5 i + j gives fluids at level i and
 * vasopressors at level j. Reward 1 for survival. The expert are the clinicians, as estimated from their records. */
#include "tabular.h"
