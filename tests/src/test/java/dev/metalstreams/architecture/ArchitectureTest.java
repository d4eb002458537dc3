package dev.metalstreams.architecture;

import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noClasses;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noMethods;
import static com.tngtech.archunit.library.dependencies.SlicesRuleDefinition.slices;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import com.tngtech.archunit.core.domain.JavaClasses;
import com.tngtech.archunit.core.domain.JavaModifier;
import com.tngtech.archunit.core.importer.ClassFileImporter;
import com.tngtech.archunit.core.importer.ImportOption;
import com.tngtech.archunit.lang.ArchRule;
import java.lang.foreign.MemorySegment;
import org.junit.jupiter.api.Test;

/** Who may know whom. */
class ArchitectureTest {
  private static final JavaClasses CODE =
      new ClassFileImporter()
          .withImportOption(ImportOption.Predefined.DO_NOT_INCLUDE_TESTS)
          .importPackages("dev.metalstreams");

  private static final ArchRule ONLY_BINDINGS_ARE_NATIVE =
      noClasses()
          .that()
          .resideOutsideOfPackage("dev.metalstreams.bindings..")
          .should()
          .dependOnClassesThat()
          .resideInAnyPackage("java.lang.foreign..", "sun.misc..", "jdk.internal..");

  @Test
  void onlyTheBindingsKnowNativeMemory() {
    ONLY_BINDINGS_ARE_NATIVE.check(CODE);
  }

  @Test
  void thatRuleFindsWhoBreaksIt() {
    assertThatExceptionOfType(AssertionError.class)
        .isThrownBy(
            () -> ONLY_BINDINGS_ARE_NATIVE.check(new ClassFileImporter().importClasses(Twin.class)))
        .withMessageContaining("java.lang.foreign.MemorySegment");
  }

  @Test
  void coreAndCommandReachADeviceThroughTheDriverAlone() {
    noClasses()
        .that()
        .resideOutsideOfPackage("dev.metalstreams.bindings..")
        .should()
        .dependOnClassesThat()
        .resideInAPackage("dev.metalstreams.bindings..")
        .check(CODE);
  }

  @Test
  void theDriverKnowsNobody() {
    noClasses()
        .that()
        .resideInAPackage("dev.metalstreams.driver..")
        .should()
        .dependOnClassesThat()
        .resideOutsideOfPackages(
            "dev.metalstreams.driver..",
            "java.lang..",
            "java.nio..",
            "java.util..",
            "org.jspecify..")
        .check(CODE);
  }

  @Test
  void packagesFormNoCycle() {
    slices().matching("dev.metalstreams.(**)").should().beFreeOfCycles().check(CODE);
  }

  @Test
  void thereIsNoJni() {
    noMethods()
        .that()
        .areDeclaredInClassesThat()
        .resideInAPackage("dev.metalstreams..")
        .should()
        .haveModifier(JavaModifier.NATIVE)
        .check(CODE);
  }

  @Test
  void allOfTheCodeWasLookedAt() {
    assertThat(CODE)
        .extracting(type -> type.getPackageName())
        .contains(
            "dev.metalstreams",
            "dev.metalstreams.bindings",
            "dev.metalstreams.bindings.abi",
            "dev.metalstreams.cli",
            "dev.metalstreams.driver");
  }

  /** Breaks the first rule. */
  static final class Twin {
    private Twin() {}

    static long address(MemorySegment segment) {
      return segment.address();
    }
  }
}
