"""What is run: every regime with every row and every seed."""

REGIMES = ("train1000", "train2500", "train5000", "letters", "digits", "train1000_long")
ROWS = (
    "independent_cutmix",
    "dml_cutmix",
    "cutnmix_mutual",
    "cutnmix_former",
    "cutnmix_t1",
    "cutnmix_teacher_mutual",
    "dml_cutnmix",
    "independent_none",
    "independent_cutnmix",
    "dml_none",
    # The second wave: parts of cutnmix that can be switched, those first that lead so far.
    "cutnmix_both_ramped",
    "cutnmix_both_feature01",
    "cutnmix_mutual_feature03",
    "cutnmix_mutual_half",
    "cutnmix_mutual_until",
    "cutnmix_others",
    "cutnmix_others_clean",
    "cutnmix_clean",
    "cutnmix_peers",
    "cutnmix_others_t3",
    "independent_cutmix_half",
    "independent_cutmix_until",
    # The third: what could come of them, and other methods.
    "cutnmix_both_lighter",
    "cutnmix_mostly_mutual",
    "cutnmix_feature01",
    "cutnmix",
    "cutnmix_feature03",
    "cutnmix_feature01_others",
    "cutnmix_all_soft",
    "cutnmix_both_soft",
    "cutnmix_both_soft_lighter",
    "cutnmix_both_quarter",
    "cutnmix_both_quarter_half",
    "cutnmix_both_ramped_half",
    "kdcl_cutmix",
    "pcl_cutmix",
    "ffl_cutmix",
    "dlb_cutmix",
    "mcl_cutmix",
    "afd_cutmix",
)
# Only where named. In train1000 the first two cost what cutnmix_both_ramped does, elsewhere they
# mean nothing.
WHERE_NAMED = (
    *("independent_cutmix_longer", "one_wider_cutmix"),
    *("independent_cutmix_3_peers", "dml_cutmix_3_peers", "cutnmix_3_peers"),
)

# Name, regimes, rows, seeds, settings that are varied beside them.
STAGES = [("all", REGIMES, ROWS, (0, 1, 2, 3, 4), {})]
BASELINE = "method=independent,mix=cutmix,mix_probability=1.0,mix_until=1.0,num_peers=2"
