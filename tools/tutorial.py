"""The tutorial's notebooks, in English and Portuguese, and the documentation's pictures: one source for all.

    luxor demo && python tools/tutorial.py

runs the cells on the demo lake in ./luxor-demo and writes docs/tutorial.ipynb, docs/tutorial.pt-BR.ipynb and
docs/images/. The tests run the same cells.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


class Cell(NamedTuple):
    """A step: what it is about, in English and in Portuguese, and its code, if any."""

    english: str
    portuguese: str
    code: str = ""
    picture: str = ""


CELLS = (
    Cell(
        "# The first hour\n\nFrom an open lake to statistics, a heat map and a query in SQL, on the demo lake. With the "
        "library installed as the README says, make it in a terminal, in the folder of this notebook:\n\n```sh\npip install 'luxor-pipelines[plot,sql]'\nluxor demo\n```\n\n"
        "Its exchange rates are the European Central Bank's reference rates. The two cash indexes are synthetic.",
        "# A primeira hora\n\nDo lake aberto às estatísticas, a um mapa de calor e a uma consulta em SQL, no lake de "
        "demonstração. Com a biblioteca instalada como diz o README, crie-o num terminal, na pasta deste notebook:\n\n```sh\npip install 'luxor-pipelines[plot,sql]'\n"
        "luxor demo\n```\n\nAs taxas de câmbio são as taxas de referência do Banco Central Europeu. Os dois índices de caixa "
        "são sintéticos.",
    ),
    Cell(
        "## Open the lake\n\nAt work `LuxorQuery()` opens the lake that the environment names; here it is a folder.",
        "## Abrir o lake\n\nNo trabalho, `LuxorQuery()` abre o lake que o ambiente indica; aqui é uma pasta.",
        'from luxor_pipelines import LuxorQuery, plots\n\nlq = LuxorQuery(lake="luxor-demo")\nlq.list_tables()',
    ),
    Cell(
        "A table is a frame with typed columns. `columns` and `where` read only what is needed.",
        "Uma tabela é um DataFrame com colunas tipadas. `columns` e `where` leem só o necessário.",
        'lq.get_table("assets", columns=["Name", "Ticker"], where={"Location": "us"}).head()',
    ),
    Cell(
        "## Prices and returns\n\nA row a calendar day, carried forward within an age limit; in any currency.",
        "## Preços e retornos\n\nUma linha por dia corrido, com o último preço mantido até um limite de idade; em qualquer "
        "moeda.",
        'lq.get_prices("eurusd curncy", "2026-10-31", period="ytd", currency="brl").tail(3)',
    ),
    Cell(
        "Returns are fractions. Where one cannot be stated it is null, and `Status` says why: never 0.",
        "Retornos são frações. Onde não há retorno ele é nulo, e `Status` diz por quê: nunca 0.",
        'lq.get_returns("2026-10-31", ["eurusd curncy", "demo cash brl"], ["wtd", "mtd", "12m", "inception"], "brl")',
    ),
    Cell(
        "## Statistics\n\nOne row a statistic, one column an asset, against a benchmark and over a risk-free index. The "
        "returns are sampled on the days observed, so that weekends do not make the volatility look small.",
        "## Estatísticas\n\nUma linha por estatística, uma coluna por ativo, contra um benchmark e acima de um índice livre de "
        "risco. Os retornos são amostrados nos dias observados; fins de semana não diminuem a volatilidade.",
        'tickers = ["eurusd curncy", "gbpusd curncy", "mxnusd curncy"]\n'
        'lq.statistics(tickers, "2021-12-31", "2026-10-30", "brl", benchmark="chfusd curncy", risk_free="demo cash brl")',
    ),
    Cell(
        "Months × years, as fund reports print them; partial months are marked.",
        "Meses × anos, como nos relatórios de fundos; meses parciais são marcados.",
        'plots.returns(lq, "mxnusd curncy", "brl", benchmark="demo cash brl", recent_date="2026-10-30");',
        "returns",
    ),
    Cell(
        "## Risk",
        "## Risco",
        'plots.prices(lq, tickers, "2021-12-31", "2026-10-30", "brl");',
        "prices",
    ),
    Cell(
        "",
        "",
        'plots.drawdown(lq, "mxnusd curncy", "2021-12-31", "2026-10-30", "brl");',
        "drawdown",
    ),
    Cell(
        "The deepest drawdowns: when each began, touched bottom, and was over.",
        "As maiores quedas: quando cada uma começou, chegou ao fundo e terminou.",
        'lq.calculate_drawdown("mxnusd curncy", "2021-12-31", "2026-10-30", "brl", worst=3)',
    ),
    Cell(
        "",
        "",
        'plots.rolling(lq, tickers, "2022-12-31", "2026-10-30", "brl", what="volatility");',
        "rolling",
    ),
    Cell(
        "",
        "",
        'plots.correlation(lq, [*tickers, "chfusd curncy", "jpyusd curncy"], "2021-12-31", "2026-10-30");',
        "correlation",
    ),
    Cell(
        "Volatility and tracking error as single figures, a year.",
        "Volatilidade e tracking error como um só número, ao ano.",
        'volatility = lq.calculate_volatility("eurusd curncy", recent_date="2026-10-30", rolling=False, '
        'sample_frequency="daily")\n'
        'error = lq.calculate_tracking_error("eurusd curncy", "gbpusd curncy", "2024-10-31", "2026-10-30")\n'
        "f\"{volatility['Volatility'].iloc[0]:.2%}, {error:.2%}\"",
    ),
    Cell(
        "## Benchmarks and cash\n\nA composite of any legs, reset to its weights at month ends.",
        "## Benchmarks e caixa\n\nUm benchmark composto de quaisquer séries, rebalanceado nos fins de mês.",
        'lq.get_benchmark({"chfusd curncy": 0.4, "demo cash usd": 0.6}, "2025-12-31", "2026-10-30", currency="usd").tail(3)',
    ),
    Cell(
        "Performance as Brazilian funds are quoted: a percentage of a reference rate, or a spread over it.",
        "Desempenho como se cota no Brasil: percentual de uma taxa de referência, ou um spread sobre ela.",
        'lq.quote_against_rate(tickers, "demo cash brl", "2025-12-31", "2024-12-31", currency="brl").round(4)',
    ),
    Cell(
        "The money-weighted rate a year of dated cash flows.",
        "A taxa interna de retorno, ao ano, de fluxos de caixa datados.",
        'round(lq.xirr([-1000, -500, 1700], ["2024-01-02", "2024-07-01", "2025-06-30"]), 6)',
    ),
    Cell(
        "## SQL\n\nThe tables by name; only the columns and dates that the query needs are read. Nothing can be written.",
        "## SQL\n\nAs tabelas pelo nome; só se leem as colunas e datas de que a consulta precisa. Nada pode ser escrito.",
        'lq.sql(\n    """\n    SELECT year(Date) AS Year, round(min(Last_Price), 4) AS Low, round(max(Last_Price), 4) AS High\n'
        "    FROM hist_ecb_px_last\n    WHERE Asset = $asset AND Date >= '2022-01-01'\n"
        '    GROUP BY Year ORDER BY Year\n    """,\n    {"asset": "usdbrl curncy"},\n).df()',
    ),
    Cell(
        "## Where to go on\n\n* `docs/analytics.md`: every formula, and where other libraries differ.\n"
        "* `docs/returns.md`: what a return is.\n* `docs/migration.md`: coming from the old library.",
        "## Como continuar\n\n* `docs/analytics.md`: cada fórmula, e onde outras bibliotecas divergem.\n"
        "* `docs/returns.md`: o que é um retorno.\n* `docs/migration.md`: vindo da biblioteca antiga.",
    ),
)


def run(cells: tuple[Cell, ...] = CELLS) -> Iterator[list[dict[str, Any]]]:
    """Run the cells one after another, as a notebook does; each one's outputs."""
    names: dict[str, Any] = {}
    for number, cell in enumerate(cell for cell in cells if cell.code):
        yield _outputs(cell.code, names, number + 1)


def _outputs(code: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    import matplotlib.pyplot as plt

    tree = ast.parse(code)
    last = tree.body[-1]
    value = None
    if isinstance(last, ast.Expr):
        exec(compile(ast.Module(tree.body[:-1], []), "<cell>", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    else:
        exec(compile(tree, "<cell>", "exec"), names)
    outputs: list[dict[str, Any]] = []
    if value is not None and not code.endswith(";"):
        data = {"text/plain": _lines(repr(value))}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = _lines(value._repr_html_())
        outputs.append({"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data})
    for figure in map(plt.figure, plt.get_fignums()):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=72, metadata={"Software": None})
        picture = base64.b64encode(buffer.getvalue()).decode()
        outputs.append({"output_type": "display_data", "metadata": {}, "data": {"image/png": picture}})
    plt.close("all")
    return outputs


def notebook(language: str, outputs: list[list[dict[str, Any]]] | None = None) -> dict[str, Any]:
    """A notebook in ``english`` or ``portuguese``, with the outputs of its code cells."""
    cells: list[dict[str, Any]] = []
    told = iter(outputs or [])
    for cell in CELLS:
        text = getattr(cell, language)
        if text:
            cells.append({"cell_type": "markdown", "metadata": {}, "source": _lines(text)})
        if cell.code:
            cells.append(
                {
                    "cell_type": "code",
                    "execution_count": len([each for each in cells if each["cell_type"] == "code"]) + 1,
                    "metadata": {},
                    "outputs": next(told, []),
                    "source": _lines(cell.code),
                }
            )
    for number, each in enumerate(cells):
        each["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


NOTEBOOKS = {"english": "tutorial.ipynb", "portuguese": "tutorial.pt-BR.ipynb"}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main() -> None:
    """Write the notebooks and the pictures."""
    import matplotlib as mpl

    mpl.use("agg")
    outputs = list(run())
    for language, name in NOTEBOOKS.items():
        text = json.dumps(notebook(language, outputs), indent=1, ensure_ascii=False)
        (DOCS / name).write_text(text + "\n", encoding="utf-8")
    images = DOCS / "images"
    images.mkdir(exist_ok=True)
    for cell, told in zip((cell for cell in CELLS if cell.code), outputs, strict=True):
        if cell.picture:
            (picture,) = (each["data"]["image/png"] for each in told if "image/png" in each["data"])
            (images / f"{cell.picture}.png").write_bytes(base64.b64decode(picture))


if __name__ == "__main__":
    sys.exit(main())
