"""Prices of tokens: published speeds and prices give the published costs, and measured ones say where FP4 pays."""

import sys
from pathlib import Path

import pytest

from bench import costs
from precision.cost import cheaper_up_to, per_million, price_at

FOLDER = Path(__file__).parents[3] / "config" / "throughput"


@pytest.mark.parametrize(
    ("hour", "tokens_per_s", "cost"),
    [
        # 70B, per GPU of MLPerf's systems of eight; the B200's FP8 and the RTX 5090's FP4 are estimates.
        (2.50, 24_525 / 8, 0.227),
        (0.99, 24_525 / 8, 0.090),
        (1.56, 34_988 / 8, 0.099),
        (5.89, 6_972, 0.235),
        (5.89, 13_944, 0.117),
        # 8B
        (0.76, 3_500, 0.060),
        (0.76, 7_000, 0.030),
        (2.01, 3_900, 0.143),
        (2.01, 5_900, 0.095),
    ],
)
def test_published_speeds_and_prices_give_the_published_costs(hour: float, tokens_per_s: float, cost: float) -> None:
    assert per_million(hour, tokens_per_s) == pytest.approx(cost, abs=0.0006)


def test_a_speed_of_nothing_has_no_price() -> None:
    with pytest.raises(ValueError, match="tokens_per_s: want more than 0"):
        per_million(1.0, 0.0)


def test_on_hopper_fp4_pays_for_few_streams_only() -> None:
    fp8, fp4 = (costs.measured(FOLDER / f"h100-vllm-{name}.json") for name in ("fp8", "nvfp4"))
    bound = cheaper_up_to(fp4, 2.5, fp8, 2.5)
    assert 8 <= bound < 64
    assert price_at(fp4, 2.5, bound) <= price_at(fp8, 2.5, bound)
    assert price_at(fp4, 2.5, bound + 1) > price_at(fp8, 2.5, bound + 1)
    assert cheaper_up_to(fp4, 1.0, fp8, 2.5) == 64, "on a GPU for less than half of the price it always does"
    assert cheaper_up_to(fp4, 9.9, fp8, 2.5) == 0


def test_the_command_shows_each_pool_and_where_fp4_pays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["costs", *map(str, arguments)])
        code = costs.main()
        said = capsys.readouterr()
        return code, said.out, said.err

    files = [FOLDER / f"h100-sglang-{name}.json" for name in ("fp8", "nvfp4")]
    code, out, _ = run(*files, "--streams", "64")
    assert code == 0
    assert "h100-sglang-fp8: FP8 (native), sglang 0.5.15 on H100 80GB HBM3 at 2.5 an hour" in out
    assert "64 streams      9580 tokens/s     0.072 a million" in out
    assert "FP4 is dearer than FP8 from" in out
    code, _, err = run(tmp_path / "nowhere.json")
    assert (code, "nowhere.json" in err) == (2, True)
    sheet = tmp_path / "prices.yaml"
    sheet.write_text("B200: 5.89\n")
    code, _, err = run(*files, "--prices", sheet)
    assert code == 2
    assert f"{sheet}: has no price for H100 80GB HBM3; add one, or say --hour" in err
    assert run(*files, "--prices", sheet, "--hour", "2")[0] == 0
