"""Queries, panels and pages of dashboards, built with Grafana's own package of types.

What holds of all queries:
- `$exporter` is the exporter, which speaks for one server, cluster or Sentinel group.
- Reads are counted where they are answered, on replicas too: they are summed over all nodes (ALL). The rest
  is summed over the primaries (PRIMARIES), for replicas have it once more.
- A ratio divides by what is above zero: of nothing there is no ratio, and no point is drawn.
"""

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as formats

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${source}")
ALL = 'instance=~"$exporter"'
PRIMARIES = f'{ALL},role="primary"'
NAMESPACE = 'namespace=~"$namespace"'
NODE = f'{ALL},node=~"$node"'

# Units, as Grafana calls them.
SHARE, RATE, SECONDS, BYTES, COUNT, OPS = "percentunit", "cps", "s", "bytes", "short", "ops"


# --- queries ----------------------------------------------------------------------------------------
def rate(metric, where=PRIMARIES, by=""):
    """A counter, a second, summed."""
    return f"sum{by and f' by ({by})'} (rate(cacheflow_{metric}_total{{{where}}}[$__rate_interval]))"


def gauge(metric, where=PRIMARIES, by=""):
    """A gauge, summed."""
    return f"sum{by and f' by ({by})'} (cacheflow_{metric}{{{where}}})"


def reads(where=ALL, by=""):
    """Reads that were answered, with a value or with nothing."""
    return " + ".join(rate(metric, where, by) for metric in ("hits", "stale_hits", "misses"))


def ratio(part, whole):
    """A share of 1."""
    return f"({part}) / (({whole}) > 0)"


def hit_ratio(where=ALL, by=""):
    """The share of reads that were answered with a value, fresh or stale."""
    return ratio(f"{rate('hits', where, by)} + {rate('stale_hits', where, by)}", reads(where, by))


def quantile(share, metric, where=PRIMARIES, by=""):
    """A quantile of a histogram."""
    labels = ", ".join(filter(None, ("le", by)))
    buckets = f"rate(cacheflow_{metric}_duration_seconds_bucket{{{where}}}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by ({labels}) ({buckets}))"


# --- panels -----------------------------------------------------------------------------------------
def targets(queries, instant=False):
    """Queries: (expression, legend) each."""
    for place, (expr, legend) in enumerate(queries):
        target = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(chr(ord("A") + place))
        if instant:
            target.instant().format(formats.PromQueryFormat.TABLE)
        else:
            target.range()
        yield target


def common_of(panel, title, unit, about, queries, instant=False):
    """What every panel has."""
    panel.title(title).description(about).unit(unit).datasource(SOURCE)
    for target in targets(queries, instant):
        panel.with_target(target)
    return panel


def number(title, unit, about, expr, colours=(), span=3):
    """One figure, large, with its past behind it. colours: (from, colour)."""
    panel = common_of(stat.Panel(), title, unit, about, [(expr, title)]).span(span).height(4)
    panel.graph_mode(kinds.BigValueGraphMode.AREA).color_mode(kinds.BigValueColorMode.VALUE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    steps = [models.Threshold(value=value, color=colour) for value, colour in colours]
    steps = steps or [models.Threshold(value=None, color="text")]
    return panel.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))


def curves(title, unit, about, *queries, stacked=False, top=None, span=12):
    """Curves over time."""
    panel = common_of(timeseries.Panel(), title, unit, about, queries).span(span).height(8).min(0)
    panel.fill_opacity(30 if stacked else 8).line_width(1).show_points(kinds.VisibilityMode.NEVER)
    if stacked:
        panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL))
    if top is not None:
        panel.max(top)
    legend = common.VizLegendOptions().display_mode(kinds.LegendDisplayMode.TABLE).show_legend(True)
    panel.legend(legend.placement(kinds.LegendPlacement.BOTTOM).calcs(["lastNotNull", "max"]))
    return panel.tooltip(
        common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING)
    )


def rows(title, about, label, columns, hidden=()):
    """A table with a row for each value of a label. columns: (name, unit, expression)."""
    queries = [(expr, name) for name, _, expr in columns]
    panel = common_of(table.Panel(), title, COUNT, about, queries, instant=True).span(24).height(10)
    names = {f"Value #{chr(ord('A') + place)}": name for place, (name, *_) in enumerate(columns)}
    if len(columns) == 1:
        names = {"Value": columns[0][0]}
    drop = {name: True for name in ("Time", *(f"Time {n + 1}" for n in range(len(columns))), *hidden)}
    transformer = models.DataTransformerConfig
    if len(columns) > 1:
        panel.with_transformation(
            transformer(id_val="joinByField", options={"byField": label, "mode": "outer"})
        )
    panel.with_transformation(
        transformer(id_val="organize", options={"excludeByName": drop, "renameByName": names})
    )
    for name, unit, _ in columns:
        panel.override_by_name(name, [models.DynamicConfigValue(id_val="unit", value=unit)])
    return panel.sort_by([common.TableSortByFieldState().display_name(columns[0][0]).desc(True)])


# --- dashboards -------------------------------------------------------------------------------------
def variable(name, label, query):
    """A choice, of all at first."""
    choice = dashboard.QueryVariable(name).label(label).datasource(SOURCE).query(query)
    choice.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)
    return choice.multi(True).include_all(True).all_value(".*")


def page(uid, title, about, choices, sections):
    """A dashboard; sections: (title, panels)."""
    built = dashboard.Dashboard(title).uid(uid).description(about).tags(["cacheflow"]).editable()
    built.refresh("30s").time("now-3h", "now").timezone("browser")
    built.tooltip(models.DashboardCursorSync.CROSSHAIR)
    built.with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
    built.with_variable(variable("exporter", "Exporter", "label_values(cacheflow_discovery_up, instance)"))
    for choice in choices:
        built.with_variable(choice)
    link = dashboard.DashboardLink("CacheFlow").type(models.DashboardLinkType.DASHBOARDS).tags(["cacheflow"])
    built.link(link.as_dropdown(True).include_vars(True).keep_time(True))
    ids = iter(range(1, 1000))
    for name, panels in sections:
        built.with_row(dashboard.Row(name).id(next(ids)))
        for panel in panels:
            built.with_panel(panel.id(next(ids)))
    return built.build()
