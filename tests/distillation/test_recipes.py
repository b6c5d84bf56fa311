"""What the papers ask of their peers, pinned."""

from tf_cutnmix.distillation.method import METHODS


def methods_with(fact: str) -> set[str]:
    return {name for name, recipe in METHODS.items() if getattr(recipe, fact)}


def test_each_method_takes_as_few_peers_as_it_can_teach():
    alone = {"independent", "cutnmix", "kd", "dlb"}
    found = {name: recipe.min_peers for name, recipe in METHODS.items()}
    assert found == {name: 1 if name in alone else 2 for name in METHODS} | {"okddip": 3}


def test_the_methods_whose_papers_share_a_trunk_ask_for_one():
    assert methods_with("shares") == {"cl_ilr", "one", "pcl", "ffl"}
    assert methods_with("mean_gradient") == {"cl_ilr"}


def test_the_methods_that_compare_features_or_hold_images_out_say_so():
    assert methods_with("alike") == {"okddip"}
    assert methods_with("held_out") == {"kdcl_general"}
