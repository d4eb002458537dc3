package dev.metalstreams.bindings;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.TreeSet;

/**
 * What one side knows of the C ABI: the name of everything in it, and what is true of it. Two sides
 * that agree have equal facts.
 */
final class Abi {
  private final SortedMap<String, String> facts = new TreeMap<>();

  void add(String subject, String fact) {
    if (facts.put(subject, fact) != null) {
      throw new IllegalStateException("two facts about " + subject);
    }
  }

  Map<String, String> facts() {
    return facts;
  }

  /** A sentence for every fact in which the bindings differ from this header. */
  List<String> driftOf(Abi bindings) {
    TreeSet<String> subjects = new TreeSet<>(facts.keySet());
    subjects.addAll(bindings.facts.keySet());
    List<String> drift = new ArrayList<>();
    for (String subject : subjects) {
      String header = facts.get(subject);
      String binding = bindings.facts.get(subject);
      if (header == null) {
        drift.add(subject + " is not in the header, but in the bindings: " + binding);
      } else if (binding == null) {
        drift.add(subject + " is not in the bindings, but in the header: " + header);
      } else if (!header.equals(binding)) {
        drift.add(
            subject + " is " + header + " in the header, and " + binding + " in the bindings");
      }
    }
    return drift;
  }
}
