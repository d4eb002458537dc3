package dev.metalstreams.cli;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * A chart of a table as SVG: lines over the rows, with a bar from the slowest to the fastest round
 * at each point, or a bar for each row. The value axis starts at 0.
 */
final class SvgChart {
  private static final int WIDTH = 720;
  private static final int HEIGHT = 300;
  private static final int LEFT = 70;
  private static final int RIGHT = 140;
  private static final int TOP = 14;
  private static final int BOTTOM = 42;
  private static final int BAR = 26;

  /** What a letter of a label takes at most, about. */
  private static final double LETTER = 6.5;

  private final StringBuilder svg = new StringBuilder();
  private final List<Map<String, @Nullable Object>> rows;
  private final Sheet sheet;
  private final Sheet.Chart chart;

  private SvgChart(Sheet sheet, Sheet.Chart chart) {
    this.sheet = sheet;
    this.chart = chart;
    this.rows = sheet.rows;
  }

  static String of(Sheet sheet, Sheet.Chart chart) {
    SvgChart drawing = new SvgChart(sheet, chart);
    if (chart.bars()) {
      drawing.bars();
    } else {
      drawing.lines();
    }
    return drawing.svg.toString();
  }

  private String heading(String field) {
    return sheet.columns.stream()
        .filter(column -> column.field().equals(field))
        .map(Sheet.Column::heading)
        .findFirst()
        .orElse(field);
  }

  private String label(int row) {
    Object label = rows.get(row).get(chart.label());
    if (chart.label().equals("bytes") && label instanceof Long bytes) {
      return Figures.bytes(bytes);
    }
    return String.valueOf(label);
  }

  private int longestLabel() {
    int longest = 0;
    for (int row = 0; row < rows.size(); row++) {
      longest = Math.max(longest, label(row).length());
    }
    return longest;
  }

  private Optional<Rate> value(int row, String field) {
    return Sheet.drawn(rows.get(row).get(field));
  }

  private double largest() {
    double largest = 0;
    for (int row = 0; row < rows.size(); row++) {
      for (String field : chart.values()) {
        largest = Math.max(largest, value(row, field).map(Rate::high).orElse(0.0));
      }
    }
    return largest > 0 ? largest : 1;
  }

  private void begin(int height) {
    svg.append(
        String.format(
            Locale.ROOT,
            "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">%n",
            WIDTH,
            height,
            HtmlPage.text(chart.title())));
  }

  private void end() {
    svg.append("</svg>\n");
  }

  // ---- lines

  private void lines() {
    begin(HEIGHT);
    double step = step(largest());
    double top = step * Math.ceil(largest() / step);
    for (double at = 0; at <= top + step / 2; at += step) {
      double y = y(at, top);
      svg.append(
          String.format(
              Locale.ROOT,
              "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>%n",
              LEFT,
              WIDTH - RIGHT,
              y,
              y));
      svg.append(
          String.format(
              Locale.ROOT,
              "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>%n",
              LEFT - 8,
              y + 4,
              number(at)));
    }
    for (int row = 0; row < rows.size(); row++) {
      svg.append(
          String.format(
              Locale.ROOT,
              "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>%n",
              x(row),
              HEIGHT - BOTTOM + 18,
              HtmlPage.text(label(row))));
    }
    svg.append(
        String.format(
            Locale.ROOT,
            "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>%n",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 6,
            HtmlPage.text(heading(chart.label()))));
    double lastLabel = Double.NEGATIVE_INFINITY;
    for (int series = 0; series < chart.values().size(); series++) {
      lastLabel = line(series, top, lastLabel);
    }
    end();
  }

  /** Draws a line with its name at its end, not over the name before; gives where that is. */
  private double line(int series, double top, double otherLabel) {
    String field = chart.values().get(series);
    List<String> points = new ArrayList<>();
    double label = 0;
    for (int row = 0; row < rows.size(); row++) {
      Optional<Rate> value = value(row, field);
      if (value.isPresent()) {
        double y = y(value.get().median(), top);
        points.add(String.format(Locale.ROOT, "%.1f,%.1f", x(row), y));
        svg.append(
            String.format(
                Locale.ROOT,
                "<line class=\"s%d\" opacity=\".35\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\""
                    + " y2=\"%.1f\"/>%n",
                series,
                x(row),
                x(row),
                y(value.get().low(), top),
                y(value.get().high(), top)));
        svg.append(
            String.format(
                Locale.ROOT,
                "<circle class=\"s%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>%s:"
                    + " %s</title></circle>%n",
                series,
                x(row),
                y,
                HtmlPage.text(label(row)),
                number(value.get().median())));
        label = y;
      }
    }
    svg.append(
        String.format(
            Locale.ROOT,
            "<polyline class=\"s%d\" points=\"%s\"/>%n",
            series,
            String.join(" ", points)));
    if (Math.abs(label - otherLabel) < 14) {
      label = otherLabel + (label < otherLabel ? -14 : 14);
    }
    svg.append(
        String.format(
            Locale.ROOT,
            "<text class=\"s%d\" x=\"%d\" y=\"%.1f\">%s</text>%n",
            series,
            WIDTH - RIGHT + 6,
            label + 4,
            HtmlPage.text(heading(field))));
    return label;
  }

  private double x(int row) {
    double width = WIDTH - LEFT - RIGHT;
    return LEFT + (rows.size() == 1 ? width / 2 : 12 + (width - 24) * row / (rows.size() - 1));
  }

  private static double y(double value, double top) {
    return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
  }

  // ---- bars

  private void bars() {
    begin(rows.size() * BAR * chart.values().size() + 8);
    double largest = largest();
    int left = 16 + (int) (LETTER * longestLabel());
    double width = WIDTH - left - 90;
    int line = 0;
    for (int row = 0; row < rows.size(); row++) {
      for (int series = 0; series < chart.values().size(); series++) {
        int y = 4 + line++ * BAR;
        Optional<Rate> value = value(row, chart.values().get(series));
        double length = value.map(rate -> rate.median() / largest * width).orElse(0.0);
        svg.append(
            String.format(
                Locale.ROOT,
                "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>%n",
                left - 8,
                y + 15,
                HtmlPage.text(label(row))));
        svg.append(
            String.format(
                Locale.ROOT,
                "<rect class=\"s%d\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"3\"/>%n",
                series,
                left,
                y + 2,
                Math.max(length, 1),
                BAR - 8));
        svg.append(
            String.format(
                Locale.ROOT,
                "<text class=\"value\" x=\"%.1f\" y=\"%d\">%s</text>%n",
                left + length + 6,
                y + 15,
                value.map(rate -> number(rate.median())).orElse("-")));
      }
    }
    end();
  }

  // ---- numbers

  /** A round distance of grid lines: 1, 2 or 5 times a power of ten, for four to eight lines. */
  private static double step(double largest) {
    double power = Math.pow(10, Math.floor(Math.log10(largest / 4)));
    for (int factor : new int[] {1, 2, 5}) {
      if (largest / (power * factor) <= 6) {
        return power * factor;
      }
    }
    return power * 10;
  }

  private static String number(double value) {
    if (value >= 1e6) {
      return Figures.real(value / 1e6, value >= 1e7 ? 0 : 2) + " M";
    }
    if (value >= 1e4) {
      return Figures.real(value / 1e3, 0) + " k";
    }
    return Figures.real(value, value >= 100 || value == Math.rint(value) ? 0 : 2);
  }
}
